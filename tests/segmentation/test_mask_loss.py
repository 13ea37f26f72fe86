import jax
import jax.numpy as jnp
import numpy as np

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
