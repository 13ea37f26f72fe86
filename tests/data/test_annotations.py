import numpy as np
import pytest

from vitjax.data.annotations import Annotations, tidy
from vitjax.data.errors import Tally
from vitjax.data.source import Classes

SIZES = np.array([[100, 200], [50, 60]], np.int32)
NAMES = ("first.jpg", "second.jpg")


def table(*boxes, records=None, areas=None, crowds=None):
    count = len(boxes)
    return Annotations(
        np.array(records or [0] * count, np.int32),
        np.array(boxes, float).reshape(-1, 4),
        np.arange(count, dtype=np.int32),
        np.array(areas or [1.0] * count),
        np.array(crowds or [False] * count, bool),
    )


def test_annotations_come_out_in_the_order_of_the_records():
    tidied = tidy(table([0, 0, 5, 5], [0, 0, 9, 9], [0, 0, 7, 7], records=[1, 0, 1]), SIZES, NAMES, Tally())
    assert tidied.records.tolist() == [0, 1, 1] and tidied.labels.tolist() == [1, 0, 2]
    boxes, labels = tidied.targets(1, (50, 60))
    assert boxes.tolist() == [[0, 0, 5, 5], [0, 0, 7, 7]] and labels.tolist() == [0, 2]
    assert tidied.max_objects == 2


@pytest.mark.parametrize(
    ("box", "line"),
    [
        ([np.nan, 0, 5, 5], "no finite number"),
        ([0, np.inf, 5, np.inf], "no finite number"),
        ([5, 5, 5, 9], "cover nothing"),
        ([9, 5, 5, 9], "cover nothing"),
        ([250, 5, 260, 9], "cover nothing"),
        ([-20, -20, -1, -1], "cover nothing"),
    ],
    ids=["nan", "inf", "no width", "negative width", "right of the image", "negative corner"],
)
def test_a_box_that_is_no_box_is_dropped_and_counted(box, line):
    tally = Tally()
    tidied = tidy(table(box, [1, 1, 2, 2]), SIZES, NAMES, tally)
    assert tidied.labels.tolist() == [1]
    (said,) = tally.lines("file.json")
    assert said.startswith("file.json: dropped boxes") and line in said and ": 1 (first: [" in said
    assert "first.jpg" in said


def test_boxes_are_clamped_for_training_and_rounding_stays_for_scoring():
    tally = Tally()
    tidied = tidy(table([-30, 0, 50, 50], [0, 0, 200.4, 100]), SIZES, NAMES, tally)
    assert tidied.boxes.tolist() == [[0, 0, 50, 50], [0, 0, 200.4, 100]]
    assert tidied.targets(0, (100, 200))[0].tolist() == [[0, 0, 50, 50], [0, 0, 200, 100]]
    assert tally.lines("f") == (
        "f: clamped boxes that reach out of their image: 1 (first: [-30, 0, 80, 50] on first.jpg)",
    )


@pytest.mark.parametrize("area", [np.nan, 0.0, -3.0, np.inf], ids=str)
def test_an_area_that_cannot_be_is_measured_and_counted(area):
    tally = Tally()
    assert tidy(table([0, 0, 4, 5], areas=[area]), SIZES, NAMES, tally).areas.tolist() == [20]
    assert "measured boxes" in tally.lines("f")[0]


def test_crowds_are_scored_but_not_trained_on():
    tidied = tidy(table([0, 0, 4, 5], [0, 0, 9, 9], crowds=[True, False]), SIZES, NAMES, Tally())
    assert tidied.max_objects == 1
    assert tidied.targets(0, (100, 200))[1].tolist() == [1]
    truth = tidied.instances((7, 8), NAMES, SIZES, Classes(("a", "b"), (3, 5)))
    assert [row["iscrowd"] for row in truth["annotations"]] == [1, 0]


def test_no_annotation_at_all_is_a_table_too():
    tidied = tidy(table(), SIZES, NAMES, Tally())
    assert tidied.max_objects == 0
    boxes, labels = tidied.targets(1, (50, 60))
    assert boxes.shape == (0, 4) and labels.shape == (0,)


def test_instances_name_only_the_categories_that_exist():
    truth = table([1, 2, 4, 6]).instances((7, 8), NAMES, SIZES, Classes(("a", "", "c"), (0, 1, 2)))
    assert truth["categories"] == [{"id": 0, "name": "a"}, {"id": 2, "name": "c"}]
    assert truth["images"][1] == {"id": 8, "file_name": "second.jpg", "height": 50, "width": 60}
    assert truth["annotations"] == [
        {"id": 1, "image_id": 7, "category_id": 0, "bbox": [1, 2, 3, 4], "area": 1.0, "iscrowd": 0}
    ]
