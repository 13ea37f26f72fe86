"""mIoU and accuracy against sets of pixels, and images without labels or pixels."""

import dataclasses
import json
import math

import numpy as np
import pytest

from vitjax.data.errors import DataError
from vitjax.data.source import NO_LABEL, Classes, mapped
from vitjax.evaluation.segmentation import confusion, evaluate, score_confusion
from vitjax.prediction import Answer, labelling

NAMES = ("background", "cat", "dog", "eel")
CLASSES = Classes(NAMES, (0, 1, 2, 3))


def maps(seed, known=0.8):
    """A true and a found map with labels below 3; the fourth class is nowhere."""
    rng = np.random.default_rng(seed)
    truth, found = rng.integers(0, 3, (2, 9, 7)).astype(np.uint8)
    return np.where(rng.random(truth.shape) < known, truth, NO_LABEL).astype(np.uint8), found


@dataclasses.dataclass
class Pictures:
    """As much of a source as an evaluation looks at; the labels of record 2 cannot be read either."""

    classes: Classes = CLASSES
    image_ids: tuple = ("a.png", "b.png", "c.png")
    max_objects: int = 0
    problems: tuple[str, ...] = ()

    @property
    def sizes(self):
        return np.full((3, 2), (9, 7), np.int32)

    def __len__(self):
        return 3

    def __getitem__(self, record):
        return mapped(np.zeros((9, 7, 3), np.uint8), self.label_map(record))

    def label_map(self, record):
        if record == 2:
            raise DataError("c.png cannot be read")
        return maps(record)[0]

    def name(self, record):
        return f"folder/{self.image_ids[record]}"


def right():
    """The answer that has the true map of record 0."""
    return Answer(0, np.zeros(0, np.int32), labelling(maps(0)[0], CLASSES))


def unreadable(record):
    return Answer(record, np.zeros(0, np.int32), None)


def test_iou_and_accuracy_are_those_of_the_sets_of_pixels_of_all_images():
    counts = sum(confusion(*maps(seed), 4) for seed in range(3))
    scores = score_confusion(counts, CLASSES)
    truth, found = (np.concatenate([maps(seed)[i].ravel() for seed in range(3)]) for i in (0, 1))
    known = [place for place in range(len(truth)) if truth[place] != NO_LABEL]
    wanted = []
    for label in range(3):
        mine, theirs = ({place for place in known if labels[place] == label} for labels in (truth, found))
        wanted.append(len(mine & theirs) / len(mine | theirs))
    assert [row.iou for row in scores.per_class[:3]] == pytest.approx(wanted)
    assert math.isnan(scores.per_class[3].iou) and scores.pixels == len(known)
    right = sum(truth[place] == found[place] for place in known)
    assert scores.summary == {"mIoU": pytest.approx(np.mean(wanted)), "accuracy": pytest.approx(right / len(known))}


def test_the_table_shows_every_class_and_both_scores():
    scores = score_confusion(
        confusion(np.array([[0, 0, 1, 1]], np.uint8), np.array([[0, 1, 1, 2]], np.uint8), 4), CLASSES
    )
    assert scores.table().splitlines() == [
        "class       pixels %   IoU %",
        "background     50.00   50.00",
        "cat            50.00   33.33",
        "dog             0.00    0.00",
        "eel             0.00       -",
        "mIoU                   27.78",
        "accuracy               50.00",
    ]


def test_a_label_that_the_data_do_not_have_is_a_miss_and_belongs_to_no_class():
    counts = confusion(np.array([[1, 1]], np.uint8), np.array([[1, 200]], np.uint8), 4)
    assert score_confusion(counts, CLASSES).summary == {"mIoU": 0.5, "accuracy": 0.5}


def test_an_image_that_cannot_be_read_is_missed_where_its_labels_are_known():
    evaluation = evaluate([right(), unreadable(1), unreadable(2)], Pictures())
    first, second = (int((maps(record)[0] != NO_LABEL).sum()) for record in (0, 1))
    assert evaluation.unreadable == ("folder/b.png", "folder/c.png")
    assert evaluation.scores.summary["accuracy"] == pytest.approx(first / (first + second))
    results = json.loads(json.dumps(evaluation.results))
    assert results == [{"image": "a.png", "accuracy": 1.0, "IoU": {"background": 1.0, "cat": 1.0, "dog": 1.0}}]


def test_a_label_that_is_no_class_stops_the_scoring_of_an_image_that_cannot_be_read_too():
    class Mislabelled(Pictures):
        def label_map(self, record):
            raise ValueError("c.png has the label 7, but classes.txt names 4 classes")

    for found in (right(), unreadable(2)):
        with pytest.raises(ValueError, match="has the label 7"):
            evaluate([found], Mislabelled())


def test_without_labelled_pixels_there_are_no_scores():
    scores = score_confusion(np.zeros((4, 5), np.int64), CLASSES)
    assert all(math.isnan(score) for score in scores.summary.values())


def test_maps_that_cannot_be_compared_are_refused():
    with pytest.raises(ValueError, match=r"got \(2, 3\) for \(3, 2\)"):
        confusion(np.zeros((3, 2), np.uint8), np.zeros((2, 3), np.uint8), 4)
    with pytest.raises(ValueError, match="or 255 for none; got 7"):
        confusion(np.full((1, 1), 7, np.uint8), np.zeros((1, 1), np.uint8), 4)
