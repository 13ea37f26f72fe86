"""Order, choice and names of what is found on an image."""

import numpy as np

from vitjax.data.source import Classes
from vitjax.prediction import Prediction, labelling, name_of, names_of

CLASSES = Classes(("background", "cat", ""), (0, 1, 2))


def found(*scores):
    labels = np.arange(len(scores))
    return Prediction(np.zeros((len(scores), 4), np.float32), np.array(scores), labels, names_of(CLASSES, labels))


def test_the_best_come_first_and_of_equal_ones_the_first():
    ordered = found(0.25, 0.75, 0.5, 0.75, 0.25).best_first()
    assert ordered.labels.tolist() == [1, 3, 2, 0, 4] and ordered.names == ("cat", "3", "2", "background", "4")
    assert ordered.scores.tolist() == [0.75, 0.75, 0.5, 0.25, 0.25] and len(ordered) == 5


def test_a_score_that_is_the_threshold_reaches_it():
    assert found(0.5, 0.25, 0.75).reaching(0.5).labels.tolist() == [0, 2]


def test_masks_go_with_their_boxes():
    class Masks(list):
        def take(self, rows):
            return Masks(self[row] for row in rows)

    with_masks = Prediction(np.zeros((2, 4), np.float32), np.array([0.25, 0.5]), np.arange(2), ("a", "b"), Masks("ab"))
    assert with_masks.best_first().masks == ["b", "a"]


def test_the_classes_of_a_label_map_come_by_falling_share_and_of_equal_ones_the_first():
    found = labelling(np.array([[4, 1, 1, 0], [0, 1, 4, 1]], np.uint8), CLASSES)
    assert found.labels == (1, 0, 4) and found.shares == (0.5, 0.25, 0.25) and len(found) == 3
    assert found.names == ("cat", "background", "4")


def test_what_has_no_name_is_called_by_its_number():
    assert [name_of(CLASSES, label) for label in (1, 2, 3, 70)] == ["cat", "2", "3", "70"]
