import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vitjax.layers.masked_norms import MaskedBatchNorm

generator = np.random.default_rng(0)
IMAGE = jnp.asarray(generator.normal(3, 2, (2, 4, 5, 6)), jnp.float32)
VALID = jnp.ones((2, 4, 5), bool).at[1, 3].set(False)
SCALE = jnp.asarray([0.7, -0.7, 0.0, 1.0, -2.0, 0.3], jnp.float32)
BIAS = jnp.linspace(-1, 1, 6)
STATISTICS = {"mean": jnp.linspace(2, 4, 6), "var": jnp.linspace(0.5, 4, 6)}
MAGNITUDE = MaskedBatchNorm(magnitude=True)


def apply(module, scale, *, train):
    variables = {"params": {"scale": scale, "bias": BIAS}, "batch_stats": STATISTICS}
    return module.apply(variables, IMAGE, VALID, train=train, mutable=["batch_stats"])


@pytest.mark.parametrize("train", [False, True], ids="train={}".format)
def test_magnitude_is_batch_norm_with_the_size_of_the_scale(train):
    found = apply(MAGNITUDE, SCALE, train=train)
    wanted = apply(MaskedBatchNorm(), jnp.abs(SCALE) + 1e-5, train=train)
    jax.tree.map(np.testing.assert_array_equal, found, wanted)
    if not train:
        normal = (IMAGE - STATISTICS["mean"]) / np.sqrt(STATISTICS["var"] + 1e-5)
        np.testing.assert_allclose(found[0], normal * (abs(SCALE) + 1e-5) + BIAS, atol=1e-5)


def test_the_gradient_goes_through_the_size():
    @jax.jit
    @jax.grad
    def gradient(scale):
        return (apply(MAGNITUDE, scale, train=True)[0] * jnp.cos(IMAGE)).sum()

    there, mirrored = np.asarray(gradient(SCALE)), np.asarray(gradient(-SCALE))
    signed = np.asarray(SCALE) != 0
    np.testing.assert_allclose(there[signed], -mirrored[signed], rtol=1e-5)
    assert np.isfinite(there).all() and there.all()  # a scale of zero can still leave it


@pytest.mark.parametrize("start", [0.0, 1.0])
def test_it_starts_where_it_is_told_and_with_fresh_statistics(start):
    module = MaskedBatchNorm(start=start)
    y, variables = module.init_with_output(jax.random.key(0), IMAGE, VALID, train=True)
    fresh = {"mean": jnp.zeros(6), "var": jnp.ones(6)}
    wanted = {"params": {"scale": jnp.full(6, start), "bias": jnp.zeros(6)}, "batch_stats": fresh}
    jax.tree.map(np.testing.assert_array_equal, variables, wanted)
    assert np.any(y) == (start != 0)
