import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vitjax.segmentation.mask_loss import MaskLoss
from vitjax.structs import Targets


def test_the_losses_are_those_of_the_formulas_for_matched_masks_only():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(1, 3, 4, 6)).astype(np.float32)
    truth = rng.random((1, 2, 4, 6)) < 0.4
    valid = jnp.array([[True, False]])
    targets = Targets(jnp.zeros((1, 2, 4)), jnp.zeros((1, 2), int), valid)
    loss = MaskLoss(mask=2.0, dice=3.0)

    def total(logits):
        terms = loss(logits, targets, jnp.asarray(truth), jnp.array([[2, 0]]))
        return loss.total(terms), terms

    (value, terms), gradient = jax.jit(jax.value_and_grad(total, has_aux=True))(jnp.asarray(logits))
    p, t = 1 / (1 + np.exp(-logits[0, 2])), truth[0, 0]
    focal = np.where(t, -0.25 * (1 - p) ** 2 * np.log(p), -0.75 * p**2 * np.log(1 - p)).mean()
    dice = 1 - (2 * (p * t).sum() + 1) / (p.sum() + t.sum() + 1)
    np.testing.assert_allclose([terms["mask"].value[0], terms["dice"].value[0]], [focal, dice], rtol=1e-5)
    np.testing.assert_allclose(value, 2 * focal + 3 * dice, rtol=1e-5)
    assert gradient[0, 2].any() and not gradient[0, :2].any()


@pytest.mark.parametrize("places", [0, 2])
def test_without_any_object_the_losses_are_zero_with_finite_gradients(places):
    masks = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, 4, 6)).astype(np.float32))
    nothing = jnp.zeros((2, places), bool)
    targets = Targets(jnp.zeros((2, places, 4)), jnp.zeros((2, places), int), nothing)
    truth, queries = jnp.zeros((2, places, 8, 12), bool), jnp.zeros((2, places), int)

    def total(masks):
        return MaskLoss().total(MaskLoss()(masks, targets, truth, queries))

    value, gradient = jax.jit(jax.value_and_grad(total))(masks)
    assert value == 0 and not np.any(gradient)


def test_an_object_that_no_query_is_left_for_has_no_mask_to_learn():
    masks = jnp.asarray(np.random.default_rng(0).normal(size=(1, 1, 4, 6)).astype(np.float32))
    truth = jnp.asarray(np.random.default_rng(1).random((1, 2, 4, 6)) < 0.4)
    targets = Targets(jnp.zeros((1, 2, 4)), jnp.zeros((1, 2), int), jnp.ones((1, 2), bool))
    alone = jax.tree.map(lambda x: x[:, :1], targets)
    both = MaskLoss()(masks, targets, truth, jnp.array([[0, -1]]))
    first = MaskLoss()(masks, alone, truth[:, :1], jnp.array([[0]]))
    for name in ("mask", "dice"):
        np.testing.assert_allclose(both[name].total, first[name].total)
        assert both[name].count == 2
