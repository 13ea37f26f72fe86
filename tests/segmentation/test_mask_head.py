import jax
import jax.numpy as jnp
import numpy as np
import pytest
from quick import drawn

from vitjax.segmentation.mask_head import MaskAttention, MaskHead
from vitjax.structs import Feature

CHANNELS, HEADS, QUERIES = 128, 8, 2
ATTENTION, HEAD = MaskAttention(HEADS), MaskHead()


def parts(height, width):
    """Coarsest first: what the head reads, of an image that fills its maps."""
    rng = np.random.default_rng(0)
    sides = [(-(-height // stride), -(-width // stride)) for stride in (8, 4, 2, 1)]
    maps = [
        rng.normal(size=(1, *side, c)).astype(np.float32) for side, c in zip(sides, (CHANNELS, 3, 3, 3), strict=True)
    ]
    return maps, [np.ones((1, *side), bool) for side in sides]


def padded(maps, valid):
    """The same on frames with room for one more coarse cell below and two on the right; on padding there is noise."""
    grow = [((0, 0), (0, 16 // 2**i - m.shape[1]), (0, 0)) for i, m in zip((3, 2, 1, 0), maps, strict=True)]
    grow = [(*g[:2], (0, 24 // 2**i - m.shape[2])) for g, i, m in zip(grow, (3, 2, 1, 0), maps, strict=True)]
    return (
        [np.pad(m, (*g, (0, 0)), constant_values=7) for m, g in zip(maps, grow, strict=True)],
        [np.pad(v, g) for v, g in zip(valid, grow, strict=True)],
    )


def masks(variables, maps, valid, dtype=None):
    queries = jnp.asarray(np.random.default_rng(1).normal(size=(1, QUERIES, CHANNELS)).astype(np.float32))
    maps, valid = [jnp.asarray(m, dtype) for m in maps], [jnp.asarray(v) for v in valid]
    attention = MaskAttention(HEADS, dtype).apply(variables["attention"], queries, maps[0], valid[0])
    finer = tuple(Feature(m, v) for m, v in zip(maps[1:], valid[1:], strict=True))
    return attention, MaskHead(dtype=dtype).apply(variables["head"], maps[0], attention, valid[0], finer)


@pytest.fixture(scope="module")
def variables():
    maps, valid = parts(8, 16)
    finer = tuple(Feature(m, v) for m, v in zip(maps[1:], valid[1:], strict=True))
    attention = jax.ShapeDtypeStruct((1, QUERIES, HEADS, *maps[0].shape[1:3]), jnp.float32)
    key, queries = jax.random.key(0), jnp.zeros((1, QUERIES, CHANNELS))
    return {
        "attention": drawn(jax.eval_shape(ATTENTION.init, key, queries, maps[0], valid[0])),
        "head": drawn(jax.eval_shape(HEAD.init, key, maps[0], attention, valid[0], finer)),
    }


def test_a_padded_image_gives_the_masks_that_it_gives_alone(variables):
    maps, valid = parts(11, 13)
    run = jax.jit(masks)
    alone_attention, alone = run(variables, maps, valid)
    attention, together = run(variables, *padded(maps, valid))
    np.testing.assert_allclose(together[:, :, :11, :13], alone, atol=1e-4)
    np.testing.assert_allclose(attention[..., :2, :2], alone_attention, atol=1e-6)
    np.testing.assert_allclose(np.asarray(attention).sum((2, 3, 4)), 1, atol=1e-5)  # over the heads, too
    assert not attention[..., 2:].any()


def test_relative_attention_is_one_on_average_of_the_valid_cells_and_blind_to_padding(variables):
    (alone, *_), (valid, *_) = parts(11, 13)
    (memory, *_), (room, *_) = padded(*parts(11, 13))
    queries = jnp.asarray(np.random.default_rng(1).normal(size=(1, QUERIES, CHANNELS)).astype(np.float32))
    alone, valid, memory, room = map(jnp.asarray, (alone, valid, memory, room))
    relative = MaskAttention(HEADS, relative=True)
    wanted = relative.apply(variables["attention"], queries, alone, valid)
    np.testing.assert_allclose(np.asarray(wanted).mean((2, 3, 4)), 1, rtol=1e-5)
    found = np.asarray(relative.apply(variables["attention"], queries, memory, room))
    np.testing.assert_allclose(found[..., :2, :2], wanted, rtol=1e-4)
    assert not found[..., 2:].any()


def test_gradients_in_bfloat16_are_finite(variables):
    maps, valid = parts(8, 8)
    gradient = jax.jit(jax.grad(lambda v: jnp.square(masks(v, maps, valid, jnp.bfloat16)[1]).sum()))(variables)
    assert all(np.isfinite(leaf).all() and leaf.any() for leaf in jax.tree.leaves(gradient["head"]))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
