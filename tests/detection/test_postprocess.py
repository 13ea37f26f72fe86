import jax.numpy as jnp
import numpy as np

from vitjax.detection.postprocess import BestClass, TopDetections


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
