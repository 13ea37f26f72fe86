import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from quick import drawn

from vitjax.attention.lsda import LongShortDistanceAttention
from vitjax.attention.relative_position import DynamicPositionBias
from vitjax.ops.groups import Grid, Grouping

CHANNELS, HEADS = 48, 2
MODULE = LongShortDistanceAttention(HEADS)


def picture(height, width, batch=2):
    return np.random.default_rng(height).normal(size=(batch, height, width, CHANNELS)).astype(np.float32)


def shapes_of(module):
    tokens = jnp.zeros((1, 2, 2, CHANNELS))
    return jax.eval_shape(lambda: module.init(jax.random.key(0), tokens, Grid(2, 2, (2, 2))))


def run(variables, x, grid, valid=None, module=MODULE):
    return np.asarray(jax.jit(lambda x: module.apply(variables, x, grid, valid))(x))


def members(place, size, group, interval):
    """The tokens that share a group with one, by the definition: in its region, at a multiple of the interval."""
    return [
        other
        for other in np.ndindex(size)
        if all(
            a // (group * interval) == b // (group * interval) and (a - b) % interval == 0
            for a, b in zip(place, other, strict=True)
        )
    ]


def biases(variables, reach):
    """The position bias of every offset between tokens of a square, negative ones too, by offset."""
    module, params = DynamicPositionBias(HEADS, CHANNELS // 16), variables["params"]["position_bias"]
    square = np.asarray(module.apply({"params": params}, (reach, reach), method="of_group"))
    places = list(np.ndindex(reach, reach))
    pairs = itertools.product(enumerate(places), repeat=2)
    return {(query[0] - key[0], query[1] - key[1]): square[:, q, k] for (q, query), (k, key) in pairs}


def written_out(variables, x, valid, group, interval):
    """The published attention, token by token; zero before the last layer where a token sees nothing."""
    params, width = variables["params"], CHANNELS // HEADS
    table = biases(variables, max(x.shape[1:3]))
    fused = x @ params["qkv"]["kernel"] + params["qkv"]["bias"]
    q, k, v = (part.reshape(*x.shape[:3], HEADS, width) for part in np.split(fused, 3, axis=-1))
    mixed = np.zeros((*x.shape[:3], HEADS, width), np.float32)
    for b, *place in np.ndindex(x.shape[:3]):
        seen = [other for other in members(place, x.shape[1:3], group, interval) if valid[(b, *other)]]
        for head in range(HEADS if seen else 0):
            scores = [q[(b, *place, head)] @ k[(b, *other, head)] / math.sqrt(width) for other in seen]
            scores += np.array([table[tuple((np.array(place) - other) // interval)][head] for other in seen])
            weights = np.exp(scores - np.max(scores))
            mixed[(b, *place, head)] = weights / weights.sum() @ np.stack([v[(b, *other, head)] for other in seen])
    return mixed.reshape(x.shape) @ params["out"]["kernel"] + params["out"]["bias"]


@pytest.mark.parametrize("long", [False, True], ids=["short", "long"])
@pytest.mark.parametrize("size", [(6, 6), (7, 5), (4, 11)], ids=str)
def test_every_token_mixes_its_group_and_no_padding(size, long):
    x, group, interval = picture(*size), 3, 2
    grid = Grouping().grid(*size, group, interval, long=long, exact=True)
    variables, valid = drawn(shapes_of(MODULE)), np.ones((2, *size), bool)
    wanted = written_out(variables, x, valid, group, interval if long else 1)
    np.testing.assert_allclose(run(variables, x, grid), wanted, atol=1e-5)


@pytest.mark.parametrize("long", [False, True], ids=["short", "long"])
def test_tokens_off_the_image_are_not_seen(long):
    x, valid = picture(7, 5), np.ones((2, 7, 5), bool)
    valid[1, 5:] = valid[1, :, 3:] = False
    variables = drawn(shapes_of(MODULE))
    found = run(variables, x, Grouping().grid(7, 5, 3, 2, long=long, exact=True), jnp.asarray(valid))
    wanted = written_out(variables, x, valid, 3, 2 if long else 1)
    np.testing.assert_allclose(found[valid], wanted[valid], atol=1e-5)
    assert np.isfinite(found).all()


def seen_by(grid):
    """For each token the set of tokens that its output depends on."""
    variables, x = drawn(shapes_of(MODULE)), picture(grid.height, grid.width, batch=1)
    summed = jax.jit(jax.jacrev(lambda x: MODULE.apply(variables, x, grid).sum((0, 3))))(x)
    influence = np.abs(np.asarray(summed)).sum((2, 5)) > 0
    return {
        (row, column): {(int(r), int(c)) for r, c in np.argwhere(influence[row, column])}
        for row, column in np.ndindex(grid.height, grid.width)
    }


def test_in_short_distance_attention_a_token_sees_its_own_window_only():
    seen = seen_by(Grid(9, 9, (3, 3)))
    for row, column in seen:
        window = {(3 * (row // 3) + a, 3 * (column // 3) + b) for a in range(3) for b in range(3)}
        assert seen[row, column] == window


def test_in_long_distance_attention_a_token_sees_only_tokens_at_the_interval():
    """The paper's example: 9 x 9 tokens, groups of 3 x 3, interval 3."""
    seen = seen_by(Grid(9, 9, (3, 3), 3))
    for row, column in seen:
        assert seen[row, column] == {(row % 3 + 3 * a, column % 3 + 3 * b) for a in range(3) for b in range(3)}


def test_leaving_out_what_is_masked_changes_nothing():
    x, variables = picture(5, 7), drawn(shapes_of(MODULE))
    short = Grouping().grid(5, 7, 4, 3, long=True, exact=True)
    assert short.group == (2, 3)
    whole = Grid(5, 7, (4, 4), 3, rows=(0, 7), columns=(0, 5))
    np.testing.assert_allclose(run(variables, x, short), run(variables, x, whole), atol=1e-5)


def test_without_a_mask_padding_takes_part():
    x, variables = picture(5, 5), drawn(shapes_of(MODULE))
    masked, open_ = (Grouping(masked=m, pad="both").grid(5, 5, 4, 1, long=False, exact=True) for m in (True, False))
    assert np.abs(run(variables, x, masked) - run(variables, x, open_)).max() > 1e-2


def test_the_table_of_biases_takes_the_place_of_the_network():
    module = LongShortDistanceAttention(HEADS, position_bias="table", table=3)
    shapes = shapes_of(module)
    assert shapes["params"]["position_bias"]["table"].shape == (25, HEADS)
    variables = drawn(shapes)
    found = run(variables, picture(6, 6), Grid(6, 6, (3, 3), 2), module=module)
    assert found.shape == (2, 6, 6, CHANNELS) and np.isfinite(found).all()


def test_bfloat16_stays_near_float32_and_has_gradients():
    x, grid, variables = picture(6, 6), Grid(6, 6, (3, 3), 2), drawn(shapes_of(MODULE))
    half = LongShortDistanceAttention(HEADS, dtype="bfloat16")
    found = jax.jit(lambda x: half.apply(variables, x, grid))(jnp.asarray(x, jnp.bfloat16))
    wanted = run(variables, x, grid)
    assert found.dtype == jnp.bfloat16
    assert np.abs(np.asarray(found, np.float32) - wanted).max() < 0.05 * np.abs(wanted).max()
    gradients = jax.jit(jax.grad(lambda v: (half.apply(v, jnp.asarray(x), grid).astype(jnp.float32) ** 2).sum()))(
        variables
    )
    assert all(np.isfinite(leaf).all() and np.any(leaf) for leaf in jax.tree.leaves(gradients))


def test_channels_that_the_heads_cannot_share_are_refused():
    with pytest.raises(ValueError, match="divisible by heads=5; got 48 channels"):
        shapes_of(LongShortDistanceAttention(5))
