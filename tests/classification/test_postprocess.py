import jax.numpy as jnp
import numpy as np
import pytest

from vitjax.classification.postprocess import TopClasses

LOGITS = np.array([[0.0, 3.0, -9.0, 1.0], [2.0, -1.0, 0.5, 7.0]], np.float32)


def test_the_best_classes_come_first_with_their_share_of_all():
    found = TopClasses(k=2)(jnp.asarray(LOGITS))
    assert found.labels.tolist() == [[1, 3], [3, 0]]
    shares = np.exp(LOGITS) / np.exp(LOGITS).sum(-1, keepdims=True)
    np.testing.assert_allclose(found.scores, np.take_along_axis(shares, np.asarray(found.labels), 1), rtol=1e-5)


def test_no_more_classes_come_out_than_there_are():
    found = TopClasses()(jnp.asarray(LOGITS))
    assert found.scores.shape == found.labels.shape == (2, 4)
    np.testing.assert_allclose(found.scores.sum(-1), 1, rtol=1e-6)


def test_bfloat16_logits_give_float32_scores():
    assert TopClasses()(jnp.asarray(LOGITS, jnp.bfloat16)).scores.dtype == jnp.float32


def test_no_classes_at_all_are_refused():
    with pytest.raises(ValueError, match=r"k is a number of classes.* got 0"):
        TopClasses(k=0)
