import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from quick import drawn

from vitjax.attention.deformable import DeformableAttention

CHANNELS, HEADS, POINTS, QUERIES = 8, 2, 3, 4
SHAPES = ((3, 5), (2, 2))
TOKENS = sum(height * width for height, width in SHAPES)
MODULE = DeformableAttention(heads=HEADS, levels=len(SHAPES), points=POINTS)
generator = np.random.default_rng(0)
QUERY = generator.normal(size=(2, QUERIES, CHANNELS)).astype(np.float32)
VALUE = generator.normal(size=(2, TOKENS, CHANNELS)).astype(np.float32)
VALID = generator.random((2, TOKENS)) < 0.7
CENTRES = generator.uniform(-0.2, 1.2, (2, QUERIES, len(SHAPES), 2)).astype(np.float32)
BOXES = np.concatenate([CENTRES, generator.uniform(0.1, 1, CENTRES.shape).astype(np.float32)], -1)


@functools.cache
def compiled(module, shapes=SHAPES):
    def apply(*arguments):
        return module.apply(*arguments, shapes, mutable=["intermediates"])

    return jax.jit(apply)


def attend(variables, reference, module=MODULE, value=VALUE, valid=VALID):
    """The output, and the sown locations and weights."""
    output, state = compiled(module)(variables, QUERY, reference, value, valid)
    return np.asarray(output), {name: np.asarray(x[0]) for name, x in state["intermediates"].items()}


@functools.cache
def initial(module=MODULE):
    init = functools.partial(module.init, shapes=SHAPES)
    return jax.jit(init)(jax.random.key(0), QUERY, CENTRES, VALUE, VALID)["params"]


@pytest.fixture(scope="module")
def variables():
    shapes = {"params": jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), initial())}
    return drawn(shapes)


def pixel(plane, x, y):
    """One pixel of a map, zero outside."""
    inside = 0 <= x < plane.shape[1] and 0 <= y < plane.shape[0]
    return plane[y, x] if inside else np.zeros(plane.shape[2])


def bilinear(plane, x, y):
    """The map at a place in [0, 1], whose pixels are little squares that fill it."""
    x, y = x * plane.shape[1] - 0.5, y * plane.shape[0] - 0.5
    left, top = math.floor(x), math.floor(y)
    corners = itertools.product((left, left + 1), (top, top + 1))
    return sum((1 - abs(x - i)) * (1 - abs(y - j)) * pixel(plane, i, j) for i, j in corners)


def linear(params, name, x):
    return np.float64(x) @ np.float64(params[name]["kernel"]) + params[name]["bias"]


def by_hand(params, reference):
    """The definition in words of loops, in float64."""
    values = np.where(VALID[..., None], linear(params, "value", VALUE), 0).reshape(2, TOKENS, HEADS, -1)
    grid = (2, QUERIES, HEADS, len(SHAPES), POINTS)
    offsets = linear(params, "sampling_offsets", QUERY).reshape(*grid, 2)
    scores = np.exp(linear(params, "attention_weights", QUERY)).reshape(*grid[:3], -1)
    weights = (scores / scores.sum(-1, keepdims=True)).reshape(grid)
    out = np.zeros((2, QUERIES, HEADS, CHANNELS // HEADS))
    for image, query, head, level, point in itertools.product(*map(range, grid)):
        height, width = SHAPES[level]
        start = sum(h * w for h, w in SHAPES[:level])
        plane = values[image, start : start + height * width, head].reshape(height, width, -1)
        x, y, *size = np.float64(reference[image, query, level])
        step = np.array(size) / 2 / POINTS if size else 1 / np.array([width, height])
        place = np.array([x, y]) + offsets[image, query, head, level, point] * step
        out[image, query, head] += weights[image, query, head, level, point] * bilinear(plane, *place)
    return linear(params, "out", out.reshape(2, QUERIES, CHANNELS))


@pytest.mark.parametrize("reference", [CENTRES, BOXES], ids=["points", "boxes"])
def test_attention_is_what_loops_over_points_and_pixels_give(variables, reference):
    found, _ = attend(variables, reference)
    np.testing.assert_allclose(found, by_hand(variables["params"], reference), atol=1e-5)


def test_values_on_padding_are_not_seen(variables):
    other = np.where(VALID[..., None], VALUE, 9)
    np.testing.assert_array_equal(attend(variables, CENTRES, value=other)[0], attend(variables, CENTRES)[0])
    assert not np.allclose(attend(variables, CENTRES, valid=np.ones_like(VALID))[0], attend(variables, CENTRES)[0])


def test_the_weights_of_all_levels_and_points_add_up_to_one(variables):
    _, sown = attend(variables, BOXES)
    assert sown["weights"].shape == (2, QUERIES, HEADS, len(SHAPES), POINTS)
    assert sown["locations"].shape == (2, QUERIES, HEADS, len(SHAPES), POINTS, 2)
    np.testing.assert_allclose(sown["weights"].sum((-1, -2)), 1, atol=1e-6)


def test_in_bfloat16_locations_and_weights_are_those_of_float32(variables):
    module = MODULE.clone(dtype=jnp.bfloat16)
    found, sown = attend(variables, CENTRES, module)
    wanted, exact = attend(variables, CENTRES)
    assert found.dtype == jnp.bfloat16
    np.testing.assert_allclose(found.astype(np.float32), wanted, atol=0.05)
    for name in ("locations", "weights"):
        assert sown[name].dtype == np.float32
        np.testing.assert_allclose(sown[name], exact[name], atol=1e-6)


def test_in_bfloat16_the_gradients_of_offsets_and_weights_are_products_of_bfloat16(variables):
    query, *others = (jnp.asarray(array[:1]) for array in (QUERY, CENTRES, VALUE, VALID))

    def gradients(module):
        def total(params, query):
            out = module.apply({"params": params}, query, *others, SHAPES)
            return (out.astype(jnp.float32) ** 2).sum()

        return jax.grad(total, (0, 1))

    narrow, wide = (gradients(MODULE.clone(dtype=dtype)) for dtype in (jnp.bfloat16, None))
    found, wanted = (jax.tree.leaves(jax.jit(each)(variables["params"], query)) for each in (narrow, wide))
    for one, other in zip(found, wanted, strict=True):
        assert one.dtype == other.dtype == np.float32
        np.testing.assert_allclose(one, other, atol=0.03 * np.abs(other).max())
    traced = str(jax.make_jaxpr(narrow)(variables["params"], query))
    columns = HEADS * len(SHAPES) * POINTS
    sizes = {
        "forward": (QUERIES, columns),
        "to queries": (QUERIES, CHANNELS),
        "to kernels": (CHANNELS, columns),
    }
    counted = {way: traced.count(f":f32[{rows},{columns}] = dot_general") for way, (rows, columns) in sizes.items()}
    assert counted == {"forward": 3, "to queries": 0, "to kernels": 0}  # x and y of the offsets, and the weights


def test_attention_starts_even_on_a_star_whose_rays_end_on_squares():
    params = initial(DeformableAttention(heads=8, levels=2, points=POINTS))
    assert not params["sampling_offsets"]["kernel"].any()
    assert not params["attention_weights"]["kernel"].any() and not params["attention_weights"]["bias"].any()
    star = np.asarray(params["sampling_offsets"]["bias"]).reshape(8, 2, POINTS, 2)
    square = [(1, 0), (1, 1), (0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1)]
    for head, level, point in itertools.product(range(8), range(2), range(POINTS)):
        np.testing.assert_allclose(star[head, level, point], (point + 1) * np.array(square[head]), atol=1e-5)


def test_value_and_output_projections_start_as_xavier_has_it_and_without_bias():
    params = initial()
    bound = math.sqrt(6 / (2 * CHANNELS))
    for name in ("value", "out"):
        assert 0.9 * bound < np.abs(params[name]["kernel"]).max() <= bound
        assert not params[name]["bias"].any()


def test_channels_that_the_heads_cannot_share_are_refused():
    with pytest.raises(ValueError, match="channels divisible by heads=3; got 8 channels"):
        initial(MODULE.clone(heads=3))


def test_other_levels_than_it_was_made_for_are_refused():
    with pytest.raises(ValueError, match="made for 3 levels; got 2 maps and references on 2 levels"):
        initial(MODULE.clone(levels=3))
