"""COCO box metrics against hand-computed scores, pycocotools itself, and inputs that pycocotools gets wrong."""

import contextlib
import copy
import io
import json
import math

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from vitjax.evaluation.coco import METRICS, evaluate_boxes, to_results

BOX = [10.0, 10.0, 40.0, 40.0]
FAR = [200.0, 200.0, 40.0, 40.0]


def annotation(number, image_id=1, category_id=1, bbox=BOX, **more):
    """An annotation with all fields that pycocotools asks for."""
    record = {"id": number, "image_id": image_id, "category_id": category_id, "bbox": list(bbox)}
    return record | {"area": bbox[2] * bbox[3], "iscrowd": 0} | more


def result(score, image_id=1, category_id=1, bbox=BOX):
    """A COCO result."""
    return {"image_id": image_id, "category_id": category_id, "bbox": list(bbox), "score": score}


def truth(*annotations, images=(1, 2, 3), categories=((1, "cat"),)):
    """A COCO instances dict."""
    return {
        "images": [{"id": image_id, "width": 640, "height": 480} for image_id in images],
        "annotations": list(annotations),
        "categories": [{"id": category_id, "name": name} for category_id, name in categories],
    }


def random_scene(seed, images=12, categories=(3, 7, 8)):
    """Ground truth with crowds and objects of every size, and results some of which are near, doubled or far off."""
    rng = np.random.default_rng(seed)
    annotations, results = [], []
    for image_id in range(100, 100 + images):
        for _ in range(rng.integers(0, 9)):
            x, y, width, height = *rng.uniform(0, 300, 2), *rng.uniform(8, 200, 2)
            category_id = int(rng.choice(categories))
            crowd = int(rng.random() < 0.15)
            area = width * height * rng.uniform(0.4, 1)
            number = len(annotations) + 1
            annotations.append(
                annotation(number, image_id, category_id, [x, y, width, height], area=area, iscrowd=crowd)
            )
            for _ in range(rng.integers(0, 3)):
                near = np.array([x, y, width, height]) * rng.uniform(0.8, 1.2, 4)
                # One decimal, so that there are ties.
                results.append(result(round(float(rng.random()), 1), image_id, category_id, near.tolist()))
        far = [*rng.uniform(0, 400, 2).tolist(), 30.0, 30.0]
        results.append(result(float(rng.random()), image_id, int(rng.choice(categories)), far))
    names = tuple((category_id, f"class {category_id}") for category_id in categories)
    return truth(*annotations, images=range(100, 100 + images), categories=names), results


def pycocotools_stats(ground_truth, results):
    """The twelve numbers by a plain call of pycocotools."""
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = copy.deepcopy(ground_truth)
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(copy.deepcopy(results)), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats


@pytest.mark.parametrize("seed", range(4), ids="seed={}".format)
def test_the_twelve_numbers_are_those_of_pycocotools(seed):
    ground_truth, results = random_scene(seed)
    ours = [evaluate_boxes(ground_truth, results).summary[name] for name in METRICS]
    theirs = pycocotools_stats(ground_truth, results)
    np.testing.assert_array_equal(np.nan_to_num(ours, nan=-1), theirs)


def test_perfect_results_score_one_and_kinds_without_objects_are_nan():
    scores = evaluate_boxes(truth(annotation(1), annotation(2, bbox=FAR)), [result(0.9), result(0.8, bbox=FAR)])
    medium = ("AP", "AP50", "AP75", "APm", "AR10", "AR100", "ARm")
    assert all(math.isclose(scores.summary[name], 1.0) for name in medium)
    assert scores.summary["AR1"] == 0.5
    assert all(math.isnan(scores.summary[name]) for name in ("APs", "APl", "ARs", "ARl"))


def test_average_precision_is_the_hand_computed_one():
    # By score: hit, miss, hit of two objects. Precision is 1 up to recall 0.5 (51 of 101 recall points), then 2/3.
    found = [result(0.9), result(0.8, image_id=2), result(0.7, bbox=FAR)]
    scores = evaluate_boxes(truth(annotation(1), annotation(2, bbox=FAR)), found)
    expected = (51 * 1 + 50 * 2 / 3) / 101
    assert scores.summary["AP"] == pytest.approx(expected)
    assert scores.summary["AP50"] == pytest.approx(expected)


def test_average_over_thresholds_is_the_share_that_the_overlap_passes():
    # 40x40 against 40x29 in the same corner: IoU 0.725, which passes 0.50, 0.55, 0.60, 0.65 and 0.70 of ten thresholds.
    scores = evaluate_boxes(truth(annotation(1)), [result(0.9, bbox=[10, 10, 40, 29])])
    assert scores.summary["AP"] == pytest.approx(0.5)
    assert (scores.summary["AP50"], scores.summary["AP75"]) == (pytest.approx(1.0), 0.0)


def test_every_class_has_its_row_in_the_order_of_category_ids():
    ground_truth = truth(
        annotation(1, category_id=9), annotation(2, category_id=9, bbox=FAR), annotation(3, category_id=9, iscrowd=1),
        annotation(4, category_id=2), categories=((9, "dog"), (2, "cat"), (5, "owl")),
    )  # fmt: skip
    cat, owl, dog = evaluate_boxes(ground_truth, [result(0.9, category_id=9)]).per_class
    assert cat == ("cat", 0.0, 0.0, 1)
    assert (dog.name, dog.objects) == ("dog", 2)
    assert dog.AP50 == pytest.approx(51 / 101)
    assert (owl.name, owl.objects) == ("owl", 0)
    assert math.isnan(owl.AP)


def test_the_class_scores_average_to_the_score_of_all():
    scores = evaluate_boxes(*random_scene(5))
    assert np.nanmean([row.AP for row in scores.per_class]) == pytest.approx(scores.summary["AP"])
    assert np.nanmean([row.AP50 for row in scores.per_class]) == pytest.approx(scores.summary["AP50"])
    assert scores.by_class == {f"AP/{row.name}": row.AP for row in scores.per_class}
    precision = scores.arrays["precision"]
    axes = [len(scores.arrays[name]) for name in ("iou", "recall_levels", "classes", "areas", "detections")]
    assert list(precision.shape) == axes and scores.arrays["scores"].shape == precision.shape
    found = precision[:, :, :, scores.arrays["areas"].tolist().index("all"), -1]
    assert found[found > -1].mean() == pytest.approx(scores.summary["AP"], abs=1e-6)


def test_results_on_a_crowd_are_neither_hits_nor_misses():
    ground_truth = truth(annotation(1), annotation(2, bbox=FAR, iscrowd=1))
    scores = evaluate_boxes(ground_truth, [result(0.95, bbox=FAR), result(0.94, bbox=FAR), result(0.9)])
    assert scores.summary["AP"] == pytest.approx(1.0)


def test_only_the_hundred_best_results_of_a_class_in_an_image_count():
    misses = [result(0.9, bbox=[500, 0, 10, 10]) for _ in range(100)]
    assert evaluate_boxes(truth(annotation(1)), [*misses, result(0.1)]).summary["AR100"] == 0.0
    assert evaluate_boxes(truth(annotation(1)), [*misses[1:], result(0.1)]).summary["AR100"] == 1.0


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, None], ids=str)
@pytest.mark.parametrize("field", ["score", "bbox"])
def test_a_result_that_is_not_finite_is_refused_with_count_and_image(field, value):
    broken = [result(0.9, image_id=3), result(0.8, image_id=3)]
    for row in broken:
        row[field] = value if field == "score" else [value, 10.0, 40.0, 40.0]
    with pytest.raises(ValueError, match=r"2 of 3 results .* NaN or infinite .* image 3"):
        evaluate_boxes(truth(annotation(1)), [result(0.5), *broken])


def test_an_annotation_that_is_not_finite_is_refused_with_its_image():
    with pytest.raises(ValueError, match=r"1 of 1 annotations .* image 2"):
        evaluate_boxes(truth(annotation(1, image_id=2, bbox=[math.nan, 0, 1, 1])), [])


def test_annotation_id_zero_is_found_like_any_other():
    found = [result(0.9), result(0.8, bbox=FAR)]
    assert evaluate_boxes(truth(annotation(0), annotation(1, bbox=FAR)), found).summary["AP"] == pytest.approx(1.0)


def test_annotations_with_the_same_id_do_not_overwrite_each_other():
    found = [result(0.9), result(0.8, bbox=FAR)]
    assert evaluate_boxes(truth(annotation(7), annotation(7, bbox=FAR)), found).summary["AP"] == pytest.approx(1.0)


def test_no_results_give_zeros_where_there_is_ground_truth():
    summary = evaluate_boxes(truth(annotation(1)), []).summary
    assert (summary["AP"], summary["AP50"], summary["APm"], summary["AR100"]) == (0.0, 0.0, 0.0, 0.0)
    assert math.isnan(summary["APs"])


def test_missing_area_and_iscrowd_are_filled_in():
    bare = annotation(1)
    del bare["area"], bare["iscrowd"]
    scores = evaluate_boxes(truth(bare, annotation(2, bbox=FAR, area=None)), [result(0.9), result(0.8, bbox=FAR)])
    assert scores.summary["APm"] == pytest.approx(1.0)


def test_results_of_an_unknown_image_are_refused():
    with pytest.raises(ValueError, match=r"1 of 2 results .* 3 images .* first is 99"):
        evaluate_boxes(truth(annotation(1)), [result(0.9), result(0.9, image_id=99)])


@pytest.mark.parametrize("field", ["image_id", "category_id"])
def test_an_annotation_of_an_unknown_image_or_category_is_refused(field):
    with pytest.raises(ValueError, match=r"1 of 1 annotations .* first is 99"):
        evaluate_boxes(truth(annotation(1) | {field: 99}), [])


def test_results_of_an_unknown_category_are_left_out_and_counted():
    scores = evaluate_boxes(truth(annotation(1)), [result(0.9), result(0.95, category_id=12)])
    assert scores.summary["AP"] == pytest.approx(1.0)
    assert scores.ignored == 1
    assert "1 results left out" in scores.table()


@pytest.mark.parametrize("ids", [("a", "b", "c"), (0, 1, 2), (np.int64(5), np.int64(6), np.int64(7))], ids=str)
def test_image_ids_may_be_strings_zero_or_numpy_integers(ids):
    ground_truth = truth(annotation(1, image_id=ids[0]), images=ids)
    assert evaluate_boxes(ground_truth, [result(0.9, image_id=ids[0])]).summary["AP"] == pytest.approx(1.0)


def test_numpy_scores_and_boxes_are_taken():
    row = result(np.float32(0.9)) | {"bbox": np.array(BOX, np.float32)}
    assert evaluate_boxes(truth(annotation(1)), [row]).summary["AP"] == pytest.approx(1.0)


@pytest.mark.parametrize(
    "ground_truth",
    [truth(), truth(images=(), categories=()), {"images": [], "categories": []}, truth(annotation(1, iscrowd=1))],
    ids=["no objects", "nothing", "no annotations", "a crowd only"],
)
@pytest.mark.parametrize("found", [[], "some"], ids=["no results", "results"])
def test_empty_ground_truth_gives_nan(ground_truth, found):
    rows = [result(0.5)] if found and ground_truth["images"] else []
    scores = evaluate_boxes(ground_truth, rows)
    assert all(math.isnan(value) for value in scores.summary.values())
    assert "all" in scores.table()


def test_the_dicts_of_the_caller_stay_as_they_were():
    ground_truth, results = random_scene(6)
    before = copy.deepcopy((ground_truth, results))
    evaluate_boxes(ground_truth, results)
    assert (ground_truth, results) == before


def test_nothing_is_printed(capsys):
    evaluate_boxes(*random_scene(7))
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("ground_truth", "rows", "message"),
    [
        ([], [{"image_id": 1, "category_id": 1, "bbox": BOX}], r"result at index 0 has no 'score'"),
        ([], [result(0.5, bbox=[1, 2, 3])], r"result at index 0 has bbox \[1, 2, 3\]"),
        ([{"id": 1, "image_id": 1, "category_id": 1}], [], r"annotation at index 0 has no 'bbox'"),
    ],
    ids=["no score", "three numbers", "no bbox"],
)
def test_a_record_with_a_field_missing_or_wrong_is_named(ground_truth, rows, message):
    with pytest.raises(ValueError, match=message):
        evaluate_boxes(truth(*ground_truth), rows)


def test_a_dict_that_is_not_coco_is_refused():
    with pytest.raises(ValueError, match=r"has no 'images' but \['scores'\]"):
        evaluate_boxes({"scores": []}, [])


def test_the_table_has_a_line_for_every_class_and_the_twelve_numbers():
    ground_truth = truth(annotation(1), annotation(2, bbox=FAR), categories=((1, "cat"), (2, "a long-haired dog")))
    lines = evaluate_boxes(ground_truth, [result(0.9), result(0.8, bbox=FAR)]).table().splitlines()
    assert lines[1].split() == ["cat", "2", "1.000", "1.000"]
    assert lines[2].split()[-3:] == ["0", "-", "-"]
    assert lines[3].split() == ["all", "2", "1.000", "1.000"]
    assert len({len(line) for line in lines[:4]}) == 1
    assert all(name in "\n".join(lines[5:]) for name in METRICS)


def test_results_are_plain_numbers_in_xywh_with_category_ids():
    boxes = np.array([[[10, 20, 30.25, 60.5], [0, 0, 1, 1]], [[1.23456, 2, 3, 4], [5, 5, 5, 5]]], np.float32)
    scores = np.array([[0.9, 0.1], [0.123456789, 0.5]], np.float32)
    rows = to_results(np.array([7, 9]), scores, np.array([[2, 0], [1, 1]]), boxes, [11, 13, 17])
    assert rows[0] == {"image_id": 7, "category_id": 17, "bbox": [10.0, 20.0, 20.25, 40.5], "score": 0.9}
    assert [row["image_id"] for row in rows] == [7, 7, 9, 9]
    assert [row["category_id"] for row in rows] == [17, 11, 13, 13]
    assert rows[2]["bbox"] == [1.235, 2.0, 1.765, 2.0]
    assert json.loads(json.dumps(rows)) == rows


def test_rounding_the_scores_keeps_their_order():
    scores = np.sort(np.random.default_rng(0).random(2000).astype(np.float32))[None]
    labels, boxes = np.zeros((1, 2000), np.int64), np.zeros((1, 2000, 4), np.float32)
    rounded = [row["score"] for row in to_results([1], scores, labels, boxes, [1])]
    assert rounded == sorted(rounded)
    assert len(set(rounded)) == len(np.unique(scores))


def test_a_detection_survives_the_way_to_the_score():
    boxes = np.array([[[10, 10, 50, 50]]], np.float32)
    rows = to_results(["a"], np.array([[0.7]], np.float32), np.array([[0]]), boxes, [1])
    assert evaluate_boxes(truth(annotation(1, image_id="a"), images=("a",)), rows).summary["AP"] == pytest.approx(1.0)


def test_no_images_give_no_results():
    nothing = np.zeros((0, 5), np.float32)
    assert to_results([], nothing, nothing.astype(np.int64), np.zeros((0, 5, 4), np.float32), [1]) == []


@pytest.mark.parametrize("label", [-1, 2])
def test_a_label_without_category_id_is_refused(label):
    one = np.ones((1, 1), np.float32)
    with pytest.raises(ValueError, match=f"Label {label} has no category id"):
        to_results([1], one, np.array([[label]]), np.ones((1, 1, 4), np.float32), [5, 6])


def test_the_scorer_is_silent_and_everybody_else_is_heard(capsys, monkeypatch):
    evaluated = COCOeval.evaluate

    def meanwhile(scorer):
        print("heard")
        evaluated(scorer)

    monkeypatch.setattr(COCOeval, "evaluate", meanwhile)
    assert evaluate_boxes(truth(annotation(1)), []).summary["AP"] == 0
    assert capsys.readouterr().out == "heard\n"
    COCO().createIndex()
    assert "creating index" in capsys.readouterr().out
