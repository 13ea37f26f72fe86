import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vitjax.layers.norms import FrozenBatchNorm, MaskedGroupNorm

generator = np.random.default_rng(0)
IMAGE = jnp.asarray(generator.normal(3, 2, (2, 5, 6, 8)), jnp.float32)
AFFINE = {name: jnp.asarray(generator.normal(size=8), jnp.float32) for name in ("scale", "bias")}
STATISTICS = {"mean": jnp.asarray(generator.normal(size=8), jnp.float32), "var": jnp.linspace(0.1, 2, 8)}
EVERYWHERE = jnp.ones(IMAGE.shape[:3], bool)


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


def test_both_norms_keep_the_dtype_of_their_input():
    image = IMAGE.astype(jnp.bfloat16)
    assert FrozenBatchNorm().apply({"frozen": AFFINE | STATISTICS}, image).dtype == jnp.bfloat16
    assert MaskedGroupNorm(4).apply({"params": AFFINE}, image, EVERYWHERE).dtype == jnp.bfloat16
