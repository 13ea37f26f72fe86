import jax.numpy as jnp
import numpy as np
import pytest

from vitjax.detection.postprocess import BestClass, TopDetections
from vitjax.errors import FieldError
from vitjax.inference.suppression import suppress
from vitjax.prediction import Prediction


def test_boxes_come_out_as_corners_in_pixels_of_each_original_image():
    boxes = jnp.array([[[0.5, 0.5, 1.0, 1.0], [0.25, 0.5, 0.5, 0.2]]] * 2)
    found = BestClass()(jnp.zeros((2, 2, 4)), boxes, jnp.array([[100, 200], [40, 10]]))
    np.testing.assert_allclose(found.boxes[0], [[0, 0, 200, 100], [0, 40, 100, 60]], atol=1e-4)
    np.testing.assert_allclose(found.boxes[1], [[0, 0, 10, 40], [0, 16, 5, 24]], atol=1e-4)


def test_every_query_keeps_its_place_and_never_answers_no_object():
    logits = jnp.array([[[1.0, 2.0, 9.0], [3.0, 0.0, 0.0], [0.0, 0.5, -1.0]]])
    found = BestClass()(logits, jnp.full((1, 3, 4), 0.5), jnp.array([[10, 10]]))
    probabilities = np.exp(logits[0]) / np.exp(logits[0]).sum(-1, keepdims=True)
    assert found.labels.tolist() == [[1, 0, 1]]
    np.testing.assert_allclose(
        found.scores[0], [probabilities[0, 1], probabilities[1, 0], probabilities[2, 1]], rtol=1e-5
    )


def test_the_best_pairs_of_query_and_class_come_first():
    logits = jnp.array([[[0.0, 3.0, -9.0], [2.0, -9.0, 1.0]]])
    boxes = jnp.array([[[0.5, 0.5, 1.0, 1.0], [0.25, 0.5, 0.5, 0.2]]])
    found = TopDetections(k=4)(logits, boxes, jnp.array([[100, 200]]))
    assert found.labels.tolist() == [[1, 0, 2, 0]]
    np.testing.assert_allclose(found.scores[0], 1 / (1 + np.exp([-3.0, -2.0, -1.0, 0.0])), rtol=1e-6)
    whole, left = [0, 0, 200, 100], [0, 40, 100, 60]
    np.testing.assert_allclose(found.boxes[0], [whole, left, left, whole], atol=1e-4)


def test_no_more_detections_come_out_than_there_are_pairs():
    found = TopDetections(k=100)(jnp.zeros((2, 3, 4)), jnp.full((2, 3, 4), 0.5), jnp.array([[10, 10]] * 2))
    assert found.scores.shape == (2, 12) and found.boxes.shape == (2, 12, 4)


def test_doubles_come_last_with_score_0_and_are_those_that_suppression_on_the_host_finds():
    rng = np.random.default_rng(0)
    logits, centres = rng.normal(size=(3, 30, 2)), rng.uniform(0.4, 0.6, (3, 30, 2))
    boxes = jnp.concatenate([jnp.asarray(centres), jnp.asarray(rng.uniform(0.2, 0.3, (3, 30, 2)))], axis=-1)
    sizes = jnp.array([[100, 200], [40, 10], [64, 64]])
    everything = TopDetections(k=60)(jnp.asarray(logits), boxes, sizes)
    found = TopDetections(k=60, nms=0.4)(jnp.asarray(logits), boxes, sizes)
    for row in range(3):
        labels = everything.labels[row]
        names = tuple(map(str, labels.tolist()))
        expected = suppress(Prediction(everything.boxes[row], everything.scores[row], labels, names), 0.4)
        left = np.asarray(found.scores[row]) > 0
        assert left[: len(expected)].all() and not left[len(expected) :].any()
        assert 2 < len(expected) < 50
        np.testing.assert_array_equal(found.boxes[row][left], expected.boxes)
        np.testing.assert_array_equal(found.labels[row][left], expected.labels)


def test_an_overlap_that_cannot_be_is_refused():
    with pytest.raises(FieldError, match=r"TopDetections.nms is an IoU from 0 to 1, got 65.0"):
        TopDetections(nms=65.0)
