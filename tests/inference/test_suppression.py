import numpy as np
import pytest
from flax import linen as nn

from vitjax.data.source import Classes
from vitjax.data.transforms import Resize
from vitjax.detection.postprocess import BestClass
from vitjax.inference.suppression import suppress
from vitjax.inference.task import Asked
from vitjax.prediction import Prediction
from vitjax.tasks.detection import Detector

CLASSES = Classes(("cat", "dog"), (1, 2))
DETECTOR = Detector(nn.Module(), Resize(), BestClass())


def found_of(boxes, labels):
    scores = np.array([0.9, 0.8, 0.7], np.float32)
    return Prediction(boxes, scores, np.array(labels, np.int32), tuple(CLASSES.names[label] for label in labels))


def crowd(seed, count=60):
    """Boxes that overlap a lot, best first, some of them without area."""
    rng = np.random.default_rng(seed)
    low = rng.integers(0, 12, (count, 2))
    boxes = np.concatenate([low, low + rng.integers(0, 9, (count, 2))], 1).astype(np.float32)
    scores = np.sort(rng.random(count).astype(np.float32))[::-1]
    labels = rng.integers(0, 2, count).astype(np.int32)
    return Prediction(boxes, scores, labels, tuple(CLASSES.names[label] for label in labels))


def iou(a, b):
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    return shared / union if union else 0.0


def one_by_one(prediction, overlap):
    kept = []
    for row in range(len(prediction)):
        boxes = [prediction.boxes[other] for other in kept if prediction.labels[other] == prediction.labels[row]]
        if all(iou(box, prediction.boxes[row]) <= overlap for box in boxes):
            kept.append(row)
    return kept


@pytest.mark.parametrize("overlap", [0.0, 0.3, 0.5, 0.9, 1.0])
def test_what_is_kept_is_what_one_by_one_is_kept(overlap):
    for seed in range(5):
        crowded = crowd(seed)
        rows = one_by_one(crowded, overlap)
        kept = suppress(crowded, overlap)
        np.testing.assert_array_equal(kept.boxes, crowded.boxes[rows])
        np.testing.assert_array_equal(kept.scores, crowded.scores[rows])
        assert kept.names == tuple(crowded.names[row] for row in rows)


def test_the_same_box_of_another_class_stays():
    boxes = np.array([[0, 0, 4, 4]] * 3, np.float32)
    found = found_of(boxes, [0, 1, 0])
    kept = DETECTOR.kept(found, Asked(threshold=0.0, nms=0.5))
    assert kept.names == ("cat", "dog")


def test_nothing_is_left_of_nothing():
    empty = Prediction(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int32), ())
    assert len(suppress(empty, 0.5)) == 0


def test_suppression_comes_before_the_best_are_counted_off():
    boxes = np.array([[0, 0, 4, 4], [0, 0, 4, 4], [8, 8, 9, 9]], np.float32)
    found = found_of(boxes, [0, 0, 0])
    kept = DETECTOR.kept(found, Asked(threshold=0.75, top=2, nms=0.5))
    np.testing.assert_allclose(kept.scores, [0.9, 0.7])
    assert len(DETECTOR.shown(kept, Asked(threshold=0.75))) == 1


def test_what_is_no_iou_is_refused():
    with pytest.raises(ValueError, match=r"got 1\.5"):
        Asked(threshold=0.5, nms=1.5)
