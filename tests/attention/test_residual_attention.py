import jax
import jax.numpy as jnp
import numpy as np
import pytest
from quick import drawn

from vitjax.attention.residual_attention import PreactivationBlock, ResidualAttention

CHANNELS = 16
SIZES = [(9, 7), (6, 10)]


def picture(height, width, channels=CHANNELS):
    return jnp.asarray(np.random.default_rng(height).normal(size=(1, height, width, channels)).astype(np.float32))


def variables_of(module, channels=CHANNELS):
    return drawn(jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 8, 8, channels))))


def padded():
    x, valid = np.full((2, 9, 11, CHANNELS), 3.0, np.float32), np.zeros((2, 9, 11), bool)
    for i, (height, width) in enumerate(SIZES):
        x[i, :height, :width], valid[i, :height, :width] = picture(height, width)[0], True
    return jnp.asarray(x), jnp.asarray(valid)


def convolved(x, kernel, stride=1):
    """A convolution in float64 with torch's padding, tap by tap."""
    side = kernel.shape[0]
    wide = np.pad(x, ((0, 0), (side // 2,) * 2, (side // 2,) * 2, (0, 0)))
    rows, columns = x.shape[1:3]
    taps = [wide[:, i : i + rows : stride, j : j + columns : stride] @ kernel[i, j] for i, j in np.ndindex(side, side)]
    return sum(taps)


@pytest.mark.parametrize("features, stride", [(16, 1), (16, 2), (12, 1)])
def test_a_block_is_norm_relu_convolution_three_times_over_a_shortcut(features, stride):
    module, x = PreactivationBlock(features, stride), picture(7, 6)
    variables = variables_of(module)
    params, statistics = (jax.tree.map(np.float64, variables[name]) for name in ("params", "batch_stats"))

    def activated(x, i):
        norm, seen = params[f"norm_{i}"], statistics[f"norm_{i}"]
        y = (x - seen["mean"]) / np.sqrt(seen["var"] + 1e-5)
        return np.maximum(y * norm["scale"] + norm["bias"], 0)

    x = np.float64(x)
    first = activated(x, 1)
    shortcut = convolved(first, params["shortcut_conv"]["kernel"], stride) if "shortcut_conv" in params else x
    y = convolved(first, params["conv_1"]["kernel"])
    y = convolved(activated(y, 2), params["conv_2"]["kernel"], stride)
    wanted = convolved(activated(y, 3), params["conv_3"]["kernel"]) + shortcut
    assert ("shortcut_conv" in params) == (features != CHANNELS or stride != 1)
    found = jax.jit(module.apply)(variables, jnp.asarray(x, jnp.float32))
    np.testing.assert_allclose(found, wanted, atol=1e-4)


def test_a_mask_of_nothing_leaves_the_trunk_and_one_of_one_doubles_it():
    module, x = ResidualAttention(depth=0), picture(5, 6)
    variables = variables_of(module)
    params, statistics = variables["params"], variables["batch_stats"]
    run = jax.jit(PreactivationBlock(CHANNELS).apply)
    attend = jax.jit(lambda variables: module.apply(variables, x, mutable=["intermediates"]))

    def block(name, x):
        return run({"params": params[name], "batch_stats": statistics[name]}, x)

    trunk = block("trunk_2", block("trunk_1", block("first", x)))
    for bias, factor in ((-1e4, 1.0), (1e4, 2.0)):  # ReLU gives 1 before the last layer, which multiplies it by this
        params["mask_norm_2"] = {"scale": np.zeros(CHANNELS, np.float32), "bias": np.ones(CHANNELS, np.float32)}
        params["mask_conv_2"] = {"kernel": np.full((1, 1, CHANNELS, CHANNELS), bias, np.float32)}
        found, sown = attend(variables)
        np.testing.assert_allclose(found, block("last", factor * trunk), atol=1e-4)
        np.testing.assert_allclose(sown["intermediates"]["mask"][0], factor - 1, atol=1e-6)


@pytest.mark.parametrize("depth", [0, 1, 3])
@pytest.mark.parametrize("size", [(1, 1), (13, 20)], ids=str)
def test_maps_of_any_size_come_back_in_it(size, depth):
    found = jax.eval_shape(ResidualAttention(depth).init_with_output, jax.random.key(0), picture(*size))[0]
    assert found.shape == (1, *size, CHANNELS)


@pytest.mark.parametrize("dtype, depth", [("float32", 2), ("bfloat16", 1)])
def test_a_padded_map_gives_what_it_gives_alone_and_gradients_stay_on_it(dtype, depth):
    module, (x, valid) = ResidualAttention(depth, dtype=dtype), padded()
    variables = variables_of(module)

    def energy(variables, x):
        out, state = module.apply(variables, x, valid, mutable=["intermediates"])
        return (out.astype(jnp.float32) ** 2).sum(), (out, state["intermediates"]["mask"][0])

    run = jax.jit(jax.grad(energy, argnums=(0, 1), has_aux=True))
    (gradients, by_x), (together, mask) = run(variables, jnp.asarray(x, dtype))
    assert together.dtype == dtype and not np.any(together[~valid]) and not np.any(mask[~valid])
    leaves = jax.tree.leaves(gradients["params"])
    assert all(np.isfinite(leaf).all() for leaf in leaves)
    assert np.mean([np.any(leaf) for leaf in leaves]) > 0.9  # of four channels, a ReLU may let neither through
    assert np.isfinite(by_x).all() and np.any(by_x) and not np.any(by_x[~valid])
    for i, (height, width) in enumerate(SIZES[:1] if dtype == "float32" else []):
        alone = jax.jit(module.apply)(variables, picture(height, width))
        np.testing.assert_allclose(together[i, :height, :width], alone[0], atol=1e-4)
