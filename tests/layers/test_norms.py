from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from vitjax.layers.masked_norms import MaskedBatchNorm, MaskedGroupNorm
from vitjax.layers.norms import FrozenBatchNorm, LayerNorm

generator = np.random.default_rng(0)
IMAGE = jnp.asarray(generator.normal(3, 2, (2, 5, 6, 8)), jnp.float32)
AFFINE = {name: jnp.asarray(generator.normal(size=8), jnp.float32) for name in ("scale", "bias")}
STATISTICS = {"mean": jnp.asarray(generator.normal(size=8), jnp.float32), "var": jnp.linspace(0.1, 2, 8)}
EVERYWHERE = jnp.ones(IMAGE.shape[:3], bool)
LEARNING = {"params": AFFINE, "batch_stats": STATISTICS}
PADDED = jnp.full((2, 7, 9, 8), 50.0).at[0, :5, :6].set(IMAGE[0]).at[1, :3, :4].set(IMAGE[1, :3, :4])
VALID = jnp.zeros((2, 7, 9), bool).at[0, :5, :6].set(True).at[1, :3, :4].set(True)


def trained(image, valid):
    """Output and next statistics of a batch norm in training."""
    output, changed = MaskedBatchNorm().apply(LEARNING, image, valid, train=True, mutable=["batch_stats"])
    return output, changed["batch_stats"]


def test_masked_group_norm_is_group_norm_where_all_is_valid():
    found = MaskedGroupNorm(4).apply({"params": AFFINE}, IMAGE, EVERYWHERE)
    wanted = nn.GroupNorm(4, epsilon=1e-5, use_fast_variance=False).apply({"params": AFFINE}, IMAGE)
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_masked_group_norm_does_not_see_padding():
    padded = jnp.full((2, 7, 9, 8), 50.0).at[:, :5, :6].set(IMAGE)
    valid = jnp.zeros((2, 7, 9), bool).at[:, :5, :6].set(True)
    norm, variables = MaskedGroupNorm(4), {"params": AFFINE}
    alone = norm.apply(variables, IMAGE, EVERYWHERE)
    np.testing.assert_allclose(norm.apply(variables, padded, valid)[:, :5, :6], alone, atol=1e-5)
    assert not np.allclose(norm.apply(variables, padded, jnp.ones_like(valid))[:, :5, :6], alone, atol=0.1)


def test_masked_group_norm_starts_neutral_and_refuses_channels_that_make_no_groups():
    variables = MaskedGroupNorm(4).init(jax.random.key(0), IMAGE, EVERYWHERE)
    assert (variables["params"]["scale"] == 1).all() and (variables["params"]["bias"] == 0).all()
    with pytest.raises(ValueError, match="divisible by groups=3; got 8 channels"):
        MaskedGroupNorm(3).init(jax.random.key(0), IMAGE, EVERYWHERE)


def test_frozen_batch_norm_is_the_folded_affine_map():
    found = FrozenBatchNorm().apply({"frozen": AFFINE | STATISTICS}, IMAGE)
    scale, bias, mean, var = (np.float64({**AFFINE, **STATISTICS}[name]) for name in ("scale", "bias", "mean", "var"))
    np.testing.assert_allclose(found, (IMAGE - mean) / np.sqrt(var + 1e-5) * scale + bias, atol=1e-5)


def test_frozen_batch_norm_has_nothing_to_train_and_starts_as_identity():
    variables = FrozenBatchNorm().init(jax.random.key(0), IMAGE)
    assert set(variables) == {"frozen"} and set(variables["frozen"]) == {"scale", "bias", "mean", "var"}
    np.testing.assert_allclose(FrozenBatchNorm().apply(variables, IMAGE), IMAGE, rtol=1e-4)


def test_masked_batch_norm_trains_on_the_valid_pixels_of_all_images():
    pixels = np.float64(PADDED)[np.asarray(VALID)]
    assert len(pixels) == 5 * 6 + 3 * 4
    output, statistics = trained(PADDED, VALID)
    wanted = (pixels - pixels.mean(0)) / np.sqrt(pixels.var(0) + 1e-5) * AFFINE["scale"] + AFFINE["bias"]
    np.testing.assert_allclose(output[VALID], wanted, atol=1e-5)
    np.testing.assert_allclose(statistics["mean"], 0.9 * STATISTICS["mean"] + 0.1 * pixels.mean(0), rtol=1e-5)
    np.testing.assert_allclose(statistics["var"], 0.9 * STATISTICS["var"] + 0.1 * pixels.var(0, ddof=1), rtol=1e-5)


def test_masked_batch_norm_sends_no_gradient_to_padding():
    gradient = jax.grad(lambda image: (trained(image, VALID)[0] ** 3).sum(where=VALID[..., None]))(PADDED)
    assert not gradient[~VALID].any() and (jnp.abs(gradient[VALID]) > 0).all()


def test_masked_batch_norm_predicts_as_a_frozen_one_with_its_statistics():
    found = MaskedBatchNorm().apply(LEARNING, PADDED, VALID, train=False)
    np.testing.assert_allclose(found, FrozenBatchNorm().apply({"frozen": AFFINE | STATISTICS}, PADDED), atol=1e-4)


def test_masked_batch_norm_starts_neutral_also_where_it_starts_in_training():
    variables = MaskedBatchNorm().init(jax.random.key(0), IMAGE, EVERYWHERE, train=True)
    wanted = {"params": {"scale": 1, "bias": 0}, "batch_stats": {"mean": 0, "var": 1}}
    assert jax.tree.structure(variables) == jax.tree.structure(wanted)
    assert all((leaf == value).all() for leaf, value in zip(*map(jax.tree.leaves, (variables, wanted)), strict=True))


def test_masked_batch_norm_takes_no_harm_from_a_batch_of_padding_or_a_single_pixel():
    for valid in (jnp.zeros_like(VALID), jnp.zeros_like(VALID).at[0, 0, 0].set(True)):
        assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(trained(PADDED, valid)))


def test_masked_batch_norm_takes_the_statistics_of_a_batch_on_two_devices_over_both():
    mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:2])
    divided = jax.device_put((PADDED, VALID), NamedSharding(mesh, PartitionSpec("data")))
    for found, wanted in zip(*map(jax.tree.leaves, (jax.jit(trained)(*divided), trained(PADDED, VALID))), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


def test_all_norms_keep_the_dtype_of_their_input():
    image = IMAGE.astype(jnp.bfloat16)
    assert FrozenBatchNorm().apply({"frozen": AFFINE | STATISTICS}, image).dtype == jnp.bfloat16
    assert MaskedGroupNorm(4).apply({"params": AFFINE}, image, EVERYWHERE).dtype == jnp.bfloat16
    assert MaskedBatchNorm().apply(LEARNING, image, EVERYWHERE, train=False).dtype == jnp.bfloat16
    output, statistics = trained(image, EVERYWHERE)
    assert output.dtype == jnp.bfloat16 and {leaf.dtype for leaf in statistics.values()} == {jnp.dtype("float32")}


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_layer_norm_is_flax_s_in_value_and_gradients(dtype):
    x = jnp.asarray(np.random.default_rng(0).normal(3.0, 2.0, (2, 5, 24)), dtype)
    params = {"scale": jnp.linspace(-1, 2, 24), "bias": jnp.linspace(1, -1, 24)}
    weights = jnp.asarray(np.random.default_rng(1).normal(size=x.shape), jnp.float32)
    both = (LayerNorm(dtype=dtype), nn.LayerNorm(epsilon=1e-5, use_fast_variance=False, dtype=dtype))

    def told(norm, params, x):
        y = norm.apply({"params": params}, x)
        return (y.astype(jnp.float32) * weights).sum(), y

    (found, wanted) = (jax.grad(partial(told, norm), (0, 1), has_aux=True)(params, x) for norm in both)
    tolerance = 1e-5 if dtype == jnp.float32 else 0.05
    for ours, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        assert ours.dtype == theirs.dtype
        np.testing.assert_allclose(*(np.float32(array) for array in (ours, theirs)), rtol=tolerance, atol=tolerance)


def test_layer_norm_of_equal_numbers_is_its_bias_and_has_finite_gradients():
    norm, x = LayerNorm(), jnp.full((3, 4), 7.0)
    params = {"scale": jnp.ones(4), "bias": jnp.arange(4.0)}
    np.testing.assert_array_equal(norm.apply({"params": params}, x), jnp.broadcast_to(jnp.arange(4.0), (3, 4)))
    assert np.isfinite(jax.grad(lambda x: norm.apply({"params": params}, x).prod())(x)).all()
