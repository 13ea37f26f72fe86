"""Pictures of mistakes: all are there, tiles are of one size, right and wrong are told apart, and much is joined."""

import json

import numpy as np
import pytest
from evaluation.test_coco import result
from evaluation.test_constant_boxes import Annotated, source_of
from PIL import Image

from vitjax.data.source import Sample
from vitjax.evaluation.coco import evaluate_boxes
from vitjax.evaluation.mistakes_report import mistake_lines, mistakes_report
from vitjax.evaluation.scores import Evaluation
from vitjax.evaluation.thresholds import operating_points
from vitjax.inference.mistakes_page import RIGHT, WRONG, _joined, _marked, draw_mistakes


class Grey(Annotated):
    """Grey images of two shapes; the second cannot be read."""

    def __getitem__(self, record):
        from vitjax.data.errors import DataError

        if record == 1:
            raise DataError("broken")
        return Sample(
            np.full((*self.sizes[record], 3), 128, np.uint8), np.zeros((0, 4), np.float32), np.zeros(0, np.int32)
        )


@pytest.fixture(scope="module")
def source():
    shares = [[0.1, 0.1, 0.5, 0.5], [0.2, 0.2, 0.6, 0.6], [0.1, 0.1, 0.9, 0.9]]
    whole = source_of(shares, [0, 1, 2], [0, 1, 0], sizes=[(120, 160), (50, 50), (80, 200)])
    return Grey(**vars(whole))


def report_of(source, results):
    evaluation = Evaluation(evaluate_boxes(source.ground_truth(), results), results, ())
    scores = evaluation.scores
    return mistakes_report(evaluation, source, operating_points(["cat", "dog"], scores.ranked), 0.3)


@pytest.fixture(scope="module")
def report(source):
    results = [result(0.9, image_id=10, category_id=3, bbox=[16, 12, 64, 48]),
               result(0.8, image_id=12, category_id=7, bbox=[20, 8, 160, 64]),
               result(0.1, image_id=12, category_id=3, bbox=[500, 500, 9, 9])]  # fmt: skip
    return report_of(source, results)


def test_a_report_tells_by_json_what_was_found_and_what_is_wrong(report):
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    assert (report["objects"], report["right"], report["boxes"]) == (3, 1, 1)
    assert report["threshold"] == 0.85 and report["errors"]["missed"] == 2
    assert [one["name"] for one in report["worst"]] == ["1.jpg", "2.jpg"]
    assert report["curves"]["f1"][-1][0] == pytest.approx(2 / 6, abs=1e-3)
    first, second = mistake_lines(report)
    assert first == "best threshold 0.85, at IoU 0.5: F1 0.500, precision 1.000, recall 0.333"
    assert second.startswith("1 of 3 objects found by 1 box; 2 missed, 0 badly placed")


def test_where_nothing_is_right_the_threshold_of_the_model_is_taken_and_that_is_said(source):
    report = report_of(source, [result(0.9, image_id=10, category_id=7, bbox=[16, 12, 64, 48])])
    lines = mistake_lines(report)
    assert report["points"] is None and "no threshold gives an F1 above 0; boxes from a score of 0.3 on" in lines[0]
    assert lines[2] == "most often confused (truth -> found): cat -> dog (1)"


def test_pictures_of_a_run_are_written_without_images_that_cannot_be_read(report, source, tmp_path):
    paths = draw_mistakes(report, source, tmp_path / "report")
    assert [path.name for path in paths] == ["precision_recall.png", "confusion.png", "worst.png"]
    page = Image.open(tmp_path / "report" / "worst.png")
    assert page.width == pytest.approx(2 * 480, abs=50), "one of the two worst images is drawn: truth and found"
    assert page.height < 600


def test_images_that_the_data_do_not_have_any_longer_are_left_out(report, source, tmp_path):
    changed = {**report, "worst": [{**one, "image_id": 99} for one in report["worst"]]}
    assert [path.name for path in draw_mistakes(changed, source, tmp_path)] == ["precision_recall.png", "confusion.png"]


def test_without_objects_there_are_no_curves_and_no_page(tmp_path):
    source = Grey(**vars(source_of(np.zeros((0, 4)), np.zeros(0, np.int64))))
    report = report_of(source, [])
    json.dumps(report, allow_nan=False)
    assert [path.name for path in draw_mistakes(report, source, tmp_path)] == ["confusion.png"]


@pytest.mark.parametrize("size", [(60, 30), (1000, 2000), (480, 480)])
def test_an_image_is_as_large_as_its_tile_and_boxes_beyond_it_end_at_its_rim(size):
    image = np.full((*size, 3), 128, np.uint8)
    far = {"box": [-50, -50, 9999, size[0] / 2], "name": "cat", "score": 0.5, "mistake": "background"}
    picture = _marked(image, [far], "mistake")
    assert max(picture.shape) == 480
    assert (picture == WRONG).all(-1).any() and not (picture == RIGHT).all(-1).any()


def test_right_boxes_are_green_and_have_tags_only_where_there_are_few():
    image = np.full((480, 480, 3), 128, np.uint8)
    box = {"box": [100, 100, 200, 200], "name": "cat", "missed": False}
    few, many = _marked(image, [box], "missed"), _marked(image, [box] * 9, "missed")
    assert (few == RIGHT).all(-1).any() and (few != many).any()


def test_a_large_table_keeps_the_classes_with_most_mistakes_and_joins_the_others():
    table = np.diag(np.arange(31))
    table[3, 4] = table[7, 30] = table[30, 9] = 5
    names, joined = _joined([f"c{place}" for place in range(30)], table)
    assert len(names) == 20 and names[-1] == "11 others" and {"c3", "c4", "c7", "c9"} <= set(names)
    assert joined.sum() == table.sum() and np.trace(joined) == np.trace(table)
    assert joined[names.index("c3"), names.index("c4")] == 5 and joined[names.index("c7"), -1] == 5


def test_confusions_between_joined_classes_stay_in_the_field_of_all_of_them():
    table = np.zeros((31, 31), int)
    table[:19, 30] = 9
    table[25, 26] = 1
    _, joined = _joined([str(place) for place in range(30)], table)
    assert joined[19, 19] == 1 and joined[:19, -1].tolist() == [9] * 19
