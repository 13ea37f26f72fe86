from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from vitjax.ops.sampling import (
    deformable_sampling,
    gathered,
    gathered_gradients,
    located,
    scanned,
    scanned_gradients,
)

SHAPES = ((5, 7), (3, 4), (1, 1))
STRANGE = [np.nan, np.inf, -np.inf, 1e30, -1e30, -1.0, 2.0]


def together(forward, gradients):
    """A formulation on locations, whose x and y it wants apart."""

    def joined(shapes, value, locations, weights, cotangent):
        by_value, by_x, by_y, by_weights = gradients(shapes, value, *apart(locations), weights, cotangent)
        return by_value, jnp.stack([by_x, by_y], -1), by_weights

    return lambda shapes, value, locations, weights: forward(shapes, value, *apart(locations), weights), joined


def apart(locations):
    return locations[..., 0], locations[..., 1]


FORMULATIONS = {"scanned": together(scanned, scanned_gradients), "gathered": together(gathered, gathered_gradients)}

every = pytest.mark.parametrize("formulation", FORMULATIONS)


def drawn(seed, shapes=SHAPES, *, batch=2, queries=3, heads=2, points=2, channels=3):
    """Value, locations at least a 20th of a pixel off the pixels' centres, weights and a cotangent, in float32."""
    random = np.random.default_rng(seed)
    sides = np.array(shapes)[:, None, ::-1]
    size = (batch, queries, heads, len(shapes), points, 2)
    pixels = random.integers(-2, sides + 1, size) + random.uniform(0.05, 0.95, size)
    tokens = sum(height * width for height, width in shapes)
    arrays = (
        random.normal(size=(batch, tokens, heads, channels)),
        (pixels + 0.5) / sides,
        random.uniform(-1, 1, size[:-1]),
        random.normal(size=(batch, queries, heads, channels)),
    )
    return tuple(array.astype(np.float32) for array in arrays)


def neighbours(location, shape):
    """Each corner inside the level: its place in the level, its share, and the slopes of the share along x and y."""
    height, width = shape
    x, y = location[0] * width - 0.5, location[1] * height - 0.5
    if not (np.isfinite(x) and np.isfinite(y)):
        return
    left, top = np.floor(x), np.floor(y)
    for column, by_x, slope_x in ((left, left + 1 - x, -1), (left + 1, x - left, 1)):
        for row, by_y, slope_y in ((top, top + 1 - y, -1), (top + 1, y - top, 1)):
            if 0 <= column < width and 0 <= row < height:
                yield int(row * width + column), by_x * by_y, (slope_x * by_y * width, by_x * slope_y * height)


def oracle(shapes, value, locations, weights, cotangent):
    """Samples and gradients to value, locations and weights, point by point in float64."""
    value, locations, weights, cotangent = (np.asarray(a, np.float64) for a in (value, locations, weights, cotangent))
    out, gradients = np.zeros(cotangent.shape), [np.zeros(array.shape) for array in (value, locations, weights)]
    starts = np.cumsum([0, *(height * width for height, width in shapes)])
    for b, q, m, level, p in np.ndindex(*weights.shape):
        here, seen = (b, q, m, level, p), cotangent[b, q, m]
        for place, share, slopes in neighbours(locations[here], shapes[level]):
            token = b, starts[level] + place, m
            out[b, q, m] += weights[here] * share * value[token]
            gradients[0][token] += weights[here] * share * seen
            gradients[1][here] += weights[here] * np.array(slopes) * (seen @ value[token])
            gradients[2][here] += share * (seen @ value[token])
    return out, *gradients


@cache
def compiled(formulation, shapes):
    return tuple(jax.jit(partial(part, shapes)) for part in FORMULATIONS[formulation])


def computed(formulation, shapes, value, locations, weights, cotangent):
    forward, gradients = compiled(formulation, shapes)
    return forward(value, locations, weights), *gradients(value, locations, weights, cotangent)


def assert_close(found, wanted):
    for name, one, other in zip(("out", "value", "locations", "weights"), found, wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5, err_msg=name)


def public(value, locations, weights):
    return deformable_sampling(jnp.asarray(value), SHAPES, jnp.asarray(locations), jnp.asarray(weights))


positions = jax.jit(partial(located, SHAPES))


STRANGE_PLACES = st.lists(st.tuples(st.integers(0, 71), st.sampled_from(STRANGE)), max_size=8)
MANY_SHAPES = [
    *(((1, 1),), ((1, 9),), ((9, 1),), ((1, 1), (1, 1), (1, 1), (1, 1)), ((2, 1), (1, 2)), ((1, 3), (3, 1), (2, 2))),
    *(((1, 1), (7, 8)), ((8, 8), (4, 4), (2, 2), (1, 1)), ((5, 1), (1, 1)), ((3, 3),), ((1, 4), (6, 5), (1, 1))),
]


def are_those_of_loops(formulation, shapes, seed, strange):
    inputs = drawn(seed, shapes)
    for place, number in strange:
        inputs[1].ravel()[place % inputs[1].size] = number
    assert_close(computed(formulation, shapes, *inputs), oracle(shapes, *inputs))


@every
@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), STRANGE_PLACES)
def test_samples_and_gradients_are_those_of_loops_in_float64(formulation, seed, strange):
    are_those_of_loops(formulation, SHAPES, seed, strange)


@every
@settings(deadline=None, max_examples=4, derandomize=True)
@given(
    st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6)), min_size=1, max_size=4).map(tuple),
    st.tuples(*[st.integers(1, 4)] * 5),
)
def test_levels_points_and_channels_may_be_any(formulation, shapes, sizes):
    names = ("batch", "queries", "heads", "points", "channels")
    inputs = drawn(0, shapes, **dict(zip(names, sizes, strict=True)))
    assert_close(computed(formulation, shapes, *inputs), oracle(shapes, *inputs))


@every
@pytest.mark.parametrize("shapes", [((1, 6), (5, 1), (1, 1))], ids=str)
@settings(deadline=None, max_examples=10, derandomize=True)
@given(seed=st.integers(0, 2**32 - 1), strange=STRANGE_PLACES)
def test_levels_of_one_row_column_or_pixel_are_sampled(formulation, shapes, seed, strange):
    are_those_of_loops(formulation, shapes, seed, strange)


@pytest.mark.long
@every
@settings(deadline=None, max_examples=2_000)
@given(seed=st.integers(0, 2**32 - 1), strange=STRANGE_PLACES, shapes=st.sampled_from(MANY_SHAPES))
def test_many_levels_are_sampled(formulation, shapes, seed, strange):
    are_those_of_loops(formulation, shapes, seed, strange)


@every
def test_groups_of_heads_change_nothing(formulation, monkeypatch):
    monkeypatch.setattr("vitjax.ops.sampling.WORTH_GROUPS", 0)
    inputs = drawn(0)
    assert_close(computed(formulation, SHAPES, *inputs), oracle(SHAPES, *inputs))


@every
def test_a_location_at_the_centre_of_a_pixel_gives_the_pixel(formulation):
    value = np.random.default_rng(0).normal(size=(1, 35, 1, 2)).astype(np.float32)
    rows, columns = np.mgrid[:5, :7].reshape(2, 35)
    locations = np.stack([(columns + 0.5) / 7, (rows + 0.5) / 5], -1)[None, :, None, None, None].astype(np.float32)
    out = compiled(formulation, ((5, 7),))[0](value, locations, np.ones((1, 35, 1, 1, 1), np.float32))
    np.testing.assert_allclose(out, value, atol=1e-5)


@settings(deadline=None, max_examples=100)
@given(hnp.arrays(np.float32, (1, 2, 1, 3, 2, 2), elements=st.floats(width=32)))
def test_no_location_leads_out_of_its_level(locations):
    value, _, weights, _ = drawn(0, batch=1, queries=2, heads=1)
    samples = positions(value, *apart(locations), weights)
    ends = np.cumsum([0, *((height + 2) * (width + 2) for height, width in SHAPES)])
    for level, (_, width) in enumerate(SHAPES):
        corner = np.asarray(samples.corner).reshape(3, -1)[level]
        assert (corner >= ends[level]).all()
        assert (corner + width + 3 < ends[level + 1]).all()
    assert all(((0 <= way) & (way <= 1)).all() for way in (samples.x, samples.y))


@every
def test_a_location_that_is_nan_leaves_the_other_queries_alone(formulation):
    inputs = drawn(0)
    whole = computed(formulation, SHAPES, *inputs)
    inputs[1][0, 1] = np.nan
    broken = computed(formulation, SHAPES, *inputs)
    assert all(np.isfinite(array).all() for array in broken)
    for one, other in zip((whole[0], *whole[2:]), (broken[0], *broken[2:]), strict=True):
        np.testing.assert_array_equal(np.delete(one, 1, axis=1), np.delete(other, 1, axis=1))
        assert (np.asarray(other)[0, 1] == 0).all()


@every
def test_bfloat16_values_are_summed_in_float32(formulation):
    value, locations, weights, cotangent = drawn(0)
    value, cotangent = (jnp.asarray(array, jnp.bfloat16) for array in (value, cotangent))
    found = computed(formulation, SHAPES, value, locations, weights, cotangent)
    wanted = oracle(SHAPES, value, locations, weights, cotangent)
    assert [array.dtype for array in found] == [jnp.bfloat16, jnp.bfloat16, jnp.float32, jnp.float32]
    rounded = [np.asarray(array, np.float32) for array in found[:2]]
    for one, other in zip(rounded, wanted[:2], strict=True):
        np.testing.assert_allclose(one, other, rtol=2**-8, atol=1e-5)
    for one, other in zip(found[2:], wanted[2:], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("side", [4, 8])
def test_one_pixel_outside_the_formulations_agree_that_there_is_no_gradient(side):
    """Beyond a half of a pixel from the rim nothing is read; on the limit a tie must not give half of a slope."""
    pixels = np.array([-1.0, -0.5, 0, side - 0.5, side])  # whole numbers of eighths: exact as a share of the side
    places = np.stack(np.meshgrid((pixels + 0.5) / side, (pixels + 0.5) / side), -1).reshape(1, -1, 1, 1, 1, 2)
    value, _, weights, cotangent = drawn(0, ((side, side),), batch=1, queries=25, heads=1, points=1)
    inputs = value, places.astype(np.float32), weights, cotangent
    found = {name: computed(name, ((side, side),), *inputs) for name in FORMULATIONS}
    assert_close(*found.values())
    outside = ((places == (-0.5 / side)) | (places == (side + 0.5) / side)).any(-1)
    for gradients in found.values():
        assert not np.any(gradients[0][outside[..., 0, 0]]) and not np.any(gradients[2][outside])
        assert np.all(np.any(gradients[2][~outside], -1))


def test_gradients_of_a_mapped_function_under_jit_are_those_of_loops():
    inputs = [jnp.asarray(array)[:, None] for array in drawn(0)]

    def total(value, locations, weights, cotangent):
        return (jax.vmap(public)(value, locations, weights) * cotangent).sum()

    found = jax.jit(jax.grad(total, (0, 1, 2)))(*inputs)
    wanted = oracle(SHAPES, *(array[:, 0] for array in inputs))[1:]
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one[:, 0], other, rtol=1e-5, atol=1e-5)


def test_without_jit_the_result_is_the_same():
    value, locations, weights, _ = drawn(0)
    np.testing.assert_allclose(public(value, locations, weights), jax.jit(public)(value, locations, weights), atol=1e-6)


def test_the_backward_pass_is_given_the_inputs_only():
    inputs = [jnp.asarray(array) for array in drawn(0)[:3]]
    kept = jax.tree.leaves(jax.vjp(public, *inputs)[1])
    assert sum(np.size(array) for array in kept) <= sum(array.size for array in inputs)


def test_the_backward_pass_never_holds_all_neighbours():
    inputs = drawn(0, ((16, 16), (8, 8)), batch=1, queries=512, heads=4, points=8, channels=16)
    program = jax.jit(partial(FORMULATIONS["scanned"][1], ((16, 16), (8, 8)))).lower(*inputs).compile()
    all_neighbours_bytes = inputs[2].size * 4 * 16 * 4
    assert program.memory_analysis().temp_size_in_bytes < all_neighbours_bytes / 2


@pytest.mark.parametrize(("platform", "loops"), [("cpu", True), ("cuda", False), ("tpu", False)])
def test_each_platform_gets_its_formulation(platform, loops):
    value, locations, weights, _ = drawn(0)
    both = jax.jit(jax.value_and_grad(lambda *inputs: public(*inputs).sum(), (0, 1, 2)))
    text = both.trace(value, locations, weights).lower(lowering_platforms=(platform,)).as_text()
    assert ("stablehlo.while" in text) == loops


@pytest.mark.parametrize("empty", ["batch", "queries", "points"])
def test_nothing_to_sample_gives_zeros(empty):
    value, locations, weights, cotangent = drawn(0, **{empty: 0})
    out, pull = jax.vjp(public, value, locations, weights)
    assert out.shape == cotangent.shape
    assert not np.any(out)
    assert not any(np.any(gradient) for gradient in pull(out))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"shapes": ((5, 7), (0, 4), (1, 1))}, "level 1 of shapes is 0x4"),
        ({"shapes": ((5, 7), (3, 4), (1, 2))}, "value has 48 tokens; .* need 49"),
        ({"shapes": ((5, 7), (13, 1))}, "levels=3; value and shapes need 2"),
        ({"value": np.zeros((3, 48, 2, 3), np.float32)}, "batch=2; value and shapes need 3"),
        ({"value": np.zeros((2, 48, 4, 3), np.float32)}, "heads=2; value and shapes need 4"),
        ({"value": np.zeros((2, 48, 6), np.float32)}, "value has 3 axes .* needs 4"),
        ({"locations": np.zeros((2, 4, 2, 3, 2, 2), np.float32)}, "locations of shape .* do not fit weights"),
        ({"locations": np.zeros((2, 3, 2, 3, 1, 2), np.float32)}, "locations of shape .* do not fit weights"),
    ],
)
def test_shapes_that_do_not_fit_are_named(change, words):
    arguments = dict(zip(("value", "locations", "weights"), drawn(0), strict=False), shapes=SHAPES) | change
    with pytest.raises(ValueError, match=words):
        deformable_sampling.__wrapped__(**arguments)  # past the check of the signature, which runs in tests only
