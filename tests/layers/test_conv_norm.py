import jax
import jax.numpy as jnp
import numpy as np
import pytest
from quick import drawn
from scipy.signal import correlate

from vitjax.layers.conv_norm import ConvNorm

generator = np.random.default_rng(0)
ALONE = jnp.asarray(generator.normal(size=(1, 4, 5, 3)), jnp.float32)
PADDED = jnp.full((1, 6, 6, 3), 20.0).at[:, :4, :5].set(ALONE)
VALID = jnp.zeros((1, 6, 6), bool).at[:, :4, :5].set(True)


def convolved(kernel):
    """The image under the kernel, in float64."""
    image, kernel = np.float64(ALONE[0]), np.float64(kernel)
    filled = np.pad(image, ((1, 1), (1, 1), (0, 0)))
    return np.stack([correlate(filled, kernel[..., i], "valid")[..., 0] for i in range(kernel.shape[-1])], axis=-1)


def variables_of(module):
    made = jax.eval_shape(lambda: module.init(jax.random.key(0), ALONE, train=False))
    return drawn(dict(made))


@pytest.mark.parametrize("activation", ["relu", "in_place"])
@pytest.mark.parametrize("norm", ["batch", "frozen_batch"])
def test_it_convolves_normalises_and_rectifies(norm, activation):
    module = ConvNorm(4, norm, activation)
    variables = variables_of(module)
    affine = variables["frozen" if norm == "frozen_batch" else "params"]["norm"]
    statistics = variables["frozen" if norm == "frozen_batch" else "batch_stats"]["norm"]
    affine["scale"][::2] *= -1
    scale = np.float64(affine["scale"])
    if norm == "batch" and activation == "in_place":
        scale = np.abs(scale) + 1e-5
    normal = (convolved(variables["params"]["conv"]["kernel"]) - statistics["mean"]) / np.sqrt(statistics["var"] + 1e-5)
    wanted = normal * scale + affine["bias"]
    wanted = np.where(wanted > 0, wanted, (0.01 if activation == "in_place" else 0) * wanted)
    apply = jax.jit(lambda x, valid: module.apply(variables, x, valid, train=False))
    np.testing.assert_allclose(apply(ALONE, None)[0], wanted, atol=1e-5)
    found = apply(PADDED, VALID)
    np.testing.assert_allclose(found[0, :4, :5], wanted, atol=1e-5)
    assert not np.asarray(found)[~np.asarray(VALID)].any()


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_padding_is_not_seen_in_training(norm):
    module = ConvNorm(4, norm, "in_place")
    variables = variables_of(module)
    apply = jax.jit(lambda x, valid: module.apply(variables, x, valid, train=True, mutable="batch_stats"))
    (alone, state), (padded, same) = apply(ALONE, None), apply(PADDED, VALID)
    np.testing.assert_allclose(padded[:, :4, :5], alone, atol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), state, same)
