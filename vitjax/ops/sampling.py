"""Multi-scale deformable sampling: each query reads a few weighted points of every level.

Formulations with the same gradients stand behind one function: a scan over the points for CPUs, kernels for Nvidia
GPUs, which `vitjax.ops.kernels` has, and one wide gather for other accelerators. All their backward passes start from
the inputs alone. For scan and gather, levels are laid out with a border of zeros, and what lies outside a level reads
the border: no index leaves the array, and no corner needs a mask.
Source: Zhu et al. 2021 (Deformable DETR), section 4.1, equation 3.
"""

from functools import partial
from itertools import accumulate
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from jax import Array, lax
from jaxtyping import Float, Int

from vitjax.ops.residuals import after

Shapes = tuple[tuple[int, int], ...]
Shape = tuple[Any, ...]  # sides may be symbols
Value = Float[Array, "batch tokens heads channels"]
Locations = Float[Array, "batch queries heads levels points 2"]
Points = Float[Array, "batch queries heads levels points"]
Out = Float[Array, "batch queries heads channels"]

GROUPS = 4  # independent scatters of the backward pass: one scatter runs on one core
WORTH_GROUPS = 2**22  # numbers to scatter, below which compiling more than one costs more than it saves


class Samples(NamedTuple):
    """Where the points lie among the bordered rows; a map is one head of one image, a sample one point of a level."""

    corner: Int[Array, "samples maps queries"]  # which row is the top left one
    x: Float[Array, "samples maps queries"]  # the way from it to the right corner, in [0, 1]
    y: Float[Array, "samples maps queries"]
    inside: Float[Array, "samples maps queries"]  # 1 where any corner is inside
    weight: Float[Array, "samples maps queries"]


def deformable_sampling(value: Value, shapes: Shapes, locations: Locations, weights: Points) -> Out:
    """The weighted sum of bilinear samples, in the dtype of `value`, accumulated in float32 at least.

    `shapes` are (height, width) of the levels, which follow each other in the tokens row by row. Locations are (x, y)
    as a share of a level's width and height: pixel i of n has its centre at (i + 0.5) / n. Corners outside a level
    count as zero, each by itself. A location that is NaN lies outside: it adds nothing and gets no gradient.

    Raises:
        ValueError: a level has no pixels, or shapes disagree.
    """
    _check(value.shape, shapes, weights.shape, locations=(locations.shape, (*weights.shape, 2)))
    return _chosen(shapes, value, locations[..., 0], locations[..., 1], weights)


def sampling_at(value: Value, shapes: Shapes, x: Points, y: Points, weights: Points) -> Out:
    """`deformable_sampling` with x and y of the locations apart, which spares a copy of both."""
    _check(value.shape, shapes, weights.shape, x=(x.shape, weights.shape), y=(y.shape, weights.shape))
    return _chosen(shapes, value, x, y, weights)


def _chosen(shapes: Shapes, value: Array, *points: Array) -> Array:
    from vitjax.ops.kernels import fit, kernels_serve

    shapes = tuple((height, width) for height, width in shapes)
    kernels = kernels_serve() and fit(value.shape, points[0].shape) and _precise(value, *points) == jnp.float32
    return _sampling(shapes, kernels, value, *points)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
@partial(jax.jit, static_argnums=(0, 1))
def _sampling(shapes: Shapes, kernels: bool, *inputs: Array) -> Array:
    forms = {"cpu": partial(scanned, shapes), "default": partial(gathered, shapes)}
    if kernels:
        from vitjax.ops.kernels.sampling import sampled

        forms["cuda"] = partial(sampled, shapes)
    return lax.platform_dependent(*inputs, **forms)


def _forward(shapes: Shapes, kernels: bool, *inputs: Array) -> tuple[Array, tuple[Array, ...]]:
    return _sampling(shapes, kernels, *inputs), inputs


@partial(jax.jit, static_argnums=(0, 1))
def _backward(shapes: Shapes, kernels: bool, inputs: tuple[Array, ...], cotangent: Array) -> tuple[Array, ...]:
    forms = {"cpu": partial(scanned_gradients, shapes), "default": partial(gathered_gradients, shapes)}
    if kernels:
        from vitjax.ops.kernels.sampling import sampled_gradients

        forms["cuda"] = partial(sampled_gradients, shapes)
    return lax.platform_dependent(*inputs, cotangent, **forms)


_sampling.defvjp(_forward, _backward)


def gathered(shapes: Shapes, value: Value, x: Points, y: Points, weights: Points) -> Out:
    """The samples by one gather from rows that hold all four corners side by side, for accelerators."""
    wide = [
        jnp.concatenate([jnp.roll(level, -offset, axis=1) for offset in _offsets(width + 2)], -1)
        for level, (_, width) in zip(_bordered(shapes, value, x), shapes, strict=True)
    ]
    samples = located(shapes, value, x, y, weights)
    taken = _rows(jnp.concatenate(wide, 1), samples.corner.swapaxes(0, 1))
    taken = rearrange(taken, "n s q (corner c) -> s n q corner c", corner=4)
    # A product and a sum, which a compiler can fuse with the gather; a matrix product would need it in memory.
    out = (taken * jnp.stack(_shares(samples), -1)[..., None]).sum((0, -2))
    return _restored(out, value)


def gathered_gradients(
    shapes: Shapes, value: Value, x: Points, y: Points, weights: Points, cotangent: Out
) -> tuple[Value, Points, Points, Points]:
    """The gradients of `gathered` to value, x, y and weights."""
    return jax.vjp(partial(gathered, shapes), value, x, y, weights)[1](cotangent)


def scanned(shapes: Shapes, value: Value, x: Points, y: Points, weights: Points) -> Out:
    """The samples by a scan that adds one point of all queries at a time and stores nothing large, for CPUs."""
    value = after(value, x)  # a decoder's layers have the same values, and would lay all out at once
    rows, samples = jnp.concatenate(_bordered(shapes, value, x), 1), located(shapes, value, x, y, weights)

    def add(total: Array, sample: tuple[Array, Samples]) -> tuple[Array, None]:
        step, here = sample
        for share, offset in zip(_shares(here), _offsets(step), strict=True):
            total += share[..., None] * _rows(rows, here.corner + offset)
        return total, None

    empty = jnp.zeros((*samples.corner.shape[1:], rows.shape[-1]), rows.dtype)
    return _restored(lax.scan(add, empty, (_steps(shapes, x), samples))[0], value)


def scanned_gradients(
    shapes: Shapes, value: Value, x: Points, y: Points, weights: Points, cotangent: Out
) -> tuple[Value, Points, Points, Points]:
    """The gradients of `scanned` to value, x, y and weights."""
    value, x, y, weights = (after(given, cotangent) for given in (value, x, y, weights))
    rows = jnp.concatenate(_bordered(shapes, value, x), 1)
    samples = located(shapes, value, x, y, weights)
    cotangent = rearrange(cotangent.astype(rows.dtype), "b q m c -> (b m) q c")
    maps, numbers = len(rows), len(samples.corner) * cotangent.size
    groups = GROUPS if maps % GROUPS == 0 and numbers > WORTH_GROUPS else 1
    parts = [slice(n * maps // groups, (n + 1) * maps // groups) for n in range(groups)]
    steps = _steps(shapes, x)
    results = [
        _scan_gradients(steps, rows[part], Samples(*(field[:, part] for field in samples)), cotangent[part])
        for part in parts
    ]
    by_rows, products = (jnp.concatenate(arrays, axis) for axis, arrays in enumerate(zip(*results, strict=True)))
    by_x, by_y, by_weight = (
        rearrange(gradient, "(l p) (b m) q -> b q m l p", l=len(shapes), m=value.shape[2])
        for gradient in _chained(shapes, samples, products)
    )
    slopes = by_x.astype(x.dtype), by_y.astype(y.dtype), by_weight.astype(weights.dtype)
    return _unbordered(shapes, by_rows, value), *slopes


def _scan_gradients(steps: Array, rows: Array, samples: Samples, cotangent: Array) -> tuple[Array, Array]:
    """The gradient to the rows, and the products of cotangent and corners [samples maps queries 4]."""

    def add(place: Array, sums: tuple[Array, Array]) -> tuple[Array, Array]:
        total, products = sums
        step, here = steps[place], Samples(*(field[place] for field in samples))
        index = here.corner[..., None] + jnp.stack(_offsets(step))
        updates = jnp.stack(_shares(here), -1)[..., None] * cotangent[..., None, :]
        found = jnp.einsum("nqkc,nqc->nqk", _rows(rows, index), cotangent, precision="highest")
        return _with_rows_added(total, index, updates), products.at[place].set(found)

    sums = jnp.zeros_like(rows), jnp.zeros((*samples.corner.shape, 4), rows.dtype)
    return lax.fori_loop(0, len(steps), add, tuple(after(x, cotangent) for x in sums)) if len(steps) else sums


def _chained(shapes: Shapes, samples: Samples, products: Array) -> tuple[Array, Array, Array]:
    """The gradients to x, y and weight of each sample, from the products of cotangent and corners."""
    heights, widths = _sides(shapes, len(samples.corner) // len(shapes))
    top_left, top_right, bottom_left, bottom_right = jnp.moveaxis(products, -1, 0)
    above, below = top_right - top_left, bottom_right - bottom_left
    top, bottom = top_left + samples.x * above, bottom_left + samples.x * below
    slope = samples.weight * samples.inside
    by_x = slope * widths * (above + samples.y * (below - above))
    by_y = slope * heights * (bottom - top)
    return by_x, by_y, top + samples.y * (bottom - top)


def located(shapes: Shapes, value: Value, x: Points, y: Points, weights: Points) -> Samples:
    """The samples in rows as `_bordered` lays them out; each index has all its corners there, whatever the location."""
    precise, points = _precise(value, x), x.shape[-1]
    heights, widths = _sides(shapes, points)
    x, y, weights = (rearrange(each.astype(precise), "b q m l p -> (l p) (b m) q") for each in (x, y, weights))
    (left, x, inside_x), (top, y, inside_y) = _placed(x * widths - 0.5, widths), _placed(y * heights - 0.5, heights)
    starts = np.repeat(np.array(_starts(shapes)[:-1], np.int32), points)[:, None, None]
    return Samples(
        corner=jnp.asarray(starts) + top * (widths + 2) + left,
        x=x,
        y=y,
        inside=(inside_x & inside_y).astype(precise),
        weight=weights,
    )


def _placed(pixel: Array, size: np.ndarray) -> tuple[Array, Array, Array]:
    """Index in the bordered side, the way from there to the next pixel, and whether either of the two is inside."""
    inside = (pixel > -1) & (pixel < size)
    # Only what is inside has a gradient, on the rim too. NaN compares as False: outside.
    held = jnp.where(inside, pixel, jnp.where(pixel > -1, size, -1))
    low = jnp.minimum(jnp.floor(held), size - 1)
    return low.astype(jnp.int32) + 1, held - low, inside


def _shares(samples: Samples) -> tuple[Array, Array, Array, Array]:
    """The share of each corner: top left, top right, bottom left, bottom right."""
    top, bottom = samples.weight * (1 - samples.y), samples.weight * samples.y
    return top * (1 - samples.x), top * samples.x, bottom * (1 - samples.x), bottom * samples.x


def _offsets(step: Array | int) -> tuple[Array | int, ...]:
    """Where the corners lie after the top left one, in the order of `_shares`, in rows of so many pixels."""
    return 0, 1, step, step + 1


def _bordered(shapes: Shapes, value: Array, x: Array) -> list[Array]:
    """Each level as [maps rows channels], with one pixel of zeros around it."""
    maps = rearrange(value.astype(_precise(value, x)), "b t m c -> (b m) t c")
    ends = list(accumulate(height * width for height, width in shapes))
    levels = zip(jnp.split(maps, ends[:-1], axis=1), shapes, strict=True)
    grids = [rearrange(level, "n (h w) c -> n h w c", h=height, w=width) for level, (height, width) in levels]
    border = ((0, 0), (1, 1), (1, 1), (0, 0))
    return [rearrange(jnp.pad(grid, border), "n h w c -> n (h w) c") for grid in grids]


def _unbordered(shapes: Shapes, rows: Array, value: Array) -> Array:
    """The transpose of `_bordered`, all levels in one array of the shape and dtype of `value`."""
    levels = zip(jnp.split(rows, _starts(shapes)[1:-1], axis=1), shapes, strict=True)
    grids = [rearrange(level, "n (h w) c -> n h w c", h=height + 2, w=width + 2) for level, (height, width) in levels]
    tokens = jnp.concatenate([rearrange(grid[:, 1:-1, 1:-1], "n h w c -> n (h w) c") for grid in grids], 1)
    return rearrange(tokens, "(b m) t c -> b t m c", m=value.shape[2]).astype(value.dtype)


@jax.vmap
def _rows(rows: Array, index: Array) -> Array:
    """Rows of each map; `located` vouches for the index."""
    return rows.at[index].get(mode="promise_in_bounds")


@jax.vmap
def _with_rows_added(rows: Array, index: Array, added: Array) -> Array:
    return rows.at[index].add(added, mode="promise_in_bounds")


def _restored(out: Array, value: Array) -> Array:
    return rearrange(out, "(b m) q c -> b q m c", m=value.shape[2]).astype(value.dtype)


def _precise(*arrays: Array) -> jnp.dtype:
    return jnp.result_type(jnp.float32, *arrays)


def _starts(shapes: Shapes) -> list[int]:
    """Where each bordered level starts, and at last where all end."""
    return list(accumulate(((height + 2) * (width + 2) for height, width in shapes), initial=0))


def _sides(shapes: Shapes, points: int) -> tuple[np.ndarray, np.ndarray]:
    """Height and width of the level of each sample [samples 1 1]."""
    heights, widths = np.repeat(np.array(shapes, np.int32), points, axis=0).T[:, :, None, None]
    return heights, widths


def _steps(shapes: Shapes, x: Array) -> Array:
    return jnp.asarray(_sides(shapes, x.shape[-1])[1].ravel() + 2)


def _check(value: Shape, shapes: Shapes, weights: Shape, **points: tuple[Shape, Shape]) -> None:
    """`points` are the shapes of locations or their parts, and what the weights' shape makes of them."""
    for level, (height, width) in enumerate(shapes):
        if min(height, width) < 1:
            raise ValueError(f"level {level} of shapes is {height}x{width} pixels; every level needs at least 1x1.")
    ranks = {name: (found, len(wanted)) for name, (found, wanted) in points.items()}
    for name, (found, rank) in {"value": (value, 4), "weights": (weights, 5), **ranks}.items():
        if len(found) != rank:
            raise ValueError(f"{name} has {len(found)} axes in shape {found}; deformable sampling needs {rank}.")
    batch, tokens, heads, _ = value
    pixels = sum(height * width for height, width in shapes)
    if tokens != pixels:
        raise ValueError(f"value has {tokens} tokens; levels of {shapes} (height, width) need {pixels}.")
    for axis, name, size in ((0, "batch", batch), (2, "heads", heads), (3, "levels", len(shapes))):
        if weights[axis] != size:
            raise ValueError(f"weights of shape {weights} have {name}={weights[axis]}; value and shapes need {size}.")
    for name, (found, wanted) in points.items():
        if found != wanted:
            raise ValueError(f"{name} of shape {found} do not fit weights of shape {weights}; need {wanted}.")
