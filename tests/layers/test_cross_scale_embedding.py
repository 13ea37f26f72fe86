import jax
import jax.numpy as jnp
import numpy as np
import pytest
from quick import drawn

from vitjax.layers.cross_scale_embedding import CrossScaleEmbedding, shares

STEM = CrossScaleEmbedding(16, (4, 8, 16, 32), stride=4, norm="after")
MERGE = CrossScaleEmbedding(16, (2, 4), stride=2, norm="before")


def variables_of(module, channels=3):
    return drawn(jax.eval_shape(lambda: module.init(jax.random.key(0), jnp.zeros((1, 32, 32, channels)))))


def picture(height, width, channels=3):
    return jnp.asarray(np.random.default_rng(width).normal(size=(1, height, width, channels)), jnp.float32)


def layer_norm(x, params):
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt(x.var(-1, keepdims=True) + 1e-5) * params["scale"] + params["bias"]


def patches(x, params, kernel, stride):
    """The convolution, patch by patch; patches are centred on the strides and see zeros beyond the rim."""
    height, width = (side // stride for side in x.shape[1:3])
    rim = (kernel - stride) // 2
    padded = np.pad(x[0], ((rim, kernel), (rim, kernel), (0, 0)))
    out = [
        [np.einsum("hwi,hwio", padded[r : r + kernel, c : c + kernel], params["kernel"]) for c in columns]
        for r in range(0, height * stride, stride)
        for columns in [range(0, width * stride, stride)]
    ]
    return np.stack([np.stack(row) for row in out])[None] + params["bias"]


def test_each_kernel_has_half_the_channels_of_the_one_before_and_the_last_as_many():
    assert shares(96, 4) == (48, 24, 12, 12)
    assert shares(192, 2) == (96, 96)
    assert shares(64, 1) == (64,)


def test_tokens_are_patches_of_four_sizes_side_by_side_and_normalised():
    x, params = picture(12, 20), variables_of(STEM)["params"]
    wanted = [patches(x, params[f"conv_{i}"], kernel, 4) for i, kernel in enumerate(STEM.kernels)]
    found = STEM.apply({"params": params}, x)
    np.testing.assert_allclose(found, layer_norm(np.concatenate(wanted, -1), params["norm"]), atol=1e-4)


def test_between_stages_the_norm_comes_first():
    x, params = picture(6, 4, 8), variables_of(MERGE, 8)["params"]
    normalised = layer_norm(x, params["norm"])
    wanted = [patches(normalised, params[f"conv_{i}"], kernel, 2) for i, kernel in enumerate(MERGE.kernels)]
    np.testing.assert_allclose(MERGE.apply({"params": params}, x), np.concatenate(wanted, -1), atol=1e-4)


@pytest.mark.parametrize("module, channels", [(STEM, 3), (MERGE, 8)], ids=["stem", "merge"])
def test_with_a_mask_padding_is_never_seen_and_patches_are_filled_up(module, channels):
    variables, own = variables_of(module, channels), picture(21, 27, channels)
    valid = np.zeros((1, 32, 40), bool)
    valid[:, :21, :27] = True
    padded = np.full((1, 32, 40, channels), 7, np.float32)
    padded[valid] = np.asarray(own).reshape(-1, channels)
    alone = module.apply(variables, own, jnp.ones((1, 21, 27), bool))
    rows, columns = (-(-side // module.stride) for side in (21, 27))
    assert alone.shape == (1, rows, columns, 16)
    together = module.apply(variables, jnp.asarray(padded), jnp.asarray(valid))
    np.testing.assert_allclose(together[:, :rows, :columns], alone, atol=1e-5)


def test_without_a_mask_only_whole_patches_make_tokens():
    assert STEM.apply(variables_of(STEM), picture(23, 17)).shape == (1, 5, 4, 16)
    with pytest.raises(ValueError, match="3 x 17 has no whole patch of 4 x 4"):
        STEM.apply(variables_of(STEM), picture(3, 17))


def test_kernels_that_cannot_be_centred_are_refused():
    with pytest.raises(ValueError, match=r"stride 2 or larger by an even number: \(2, 3\)"):
        variables_of(CrossScaleEmbedding(16, (2, 3), stride=2, norm="after"))
