"""Deformable sampling on Nvidia GPUs: one kernel forward and one backward, which keep nothing in between.

Each program takes a few rows, one for each query of a head, and for every point of every level reads the four corners
from the values as they lie in memory, level after level. What `vitjax.ops.sampling` says of locations holds here.
"""

from collections.abc import Iterator
from functools import partial
from itertools import accumulate
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

from vitjax.ops.kernels import fit
from vitjax.ops.kernels.divisible import divisible
from vitjax.ops.kernels.unordered import unordered_sums
from vitjax.ops.sampling import Shapes

ROWS, ROWS_BACK = 32, 16  # of a program, by measurement (docs/performance.md)
_WHOLE = "tcqlp"
_BACKWARD = "sampling_gradients"
unordered_sums(_BACKWARD)


class _Corner(NamedTuple):
    """One corner of one point, for all rows of a program."""

    first: Array  # [rows 1] its first channel among all values
    inside: Array  # [rows 1]
    share: Array  # [rows] of the bilinear weights
    by_x: Array  # [rows] the derivative of the share by x in pixels
    by_y: Array


class _Rows:
    """The rows of a program, and their points one after the other."""

    def __init__(self, shapes: Shapes, points: int, sizes: tuple[int, int, int], channels: int, rows: int) -> None:
        self.shapes, self.points, (self.tokens, self.queries, self.heads) = shapes, points, sizes
        self.channels, self.width = channels, pl.next_power_of_2(channels)
        self.row = pl.program_id(0) * rows + jnp.arange(rows, dtype=jnp.int32)

    def corners(self, x_ref: Any, y_ref: Any, total: int) -> Iterator[tuple[int, tuple[int, int], list[_Corner]]]:
        """For each point its place among those of a row, its level's size and its corners."""
        here = self.row < total
        image, head = self.row // (self.queries * self.heads), self.row % self.heads
        starts = list(accumulate((height * width for height, width in self.shapes), initial=0))
        for level, (height, width) in enumerate(self.shapes):
            base = image * self.tokens + starts[level]
            for point in range(self.points):
                place = level * self.points + point
                at = self.row * (len(self.shapes) * self.points) + place
                x = triton.load(x_ref.at[at], mask=here, other=-2.0) * width - 0.5
                y = triton.load(y_ref.at[at], mask=here, other=-2.0) * height - 0.5
                near = (x > -1) & (x < width) & (y > -1) & (y < height)  # NaN compares as False
                x, y = jnp.where(near, x, -1.0), jnp.where(near, y, -1.0)
                left, top = jnp.floor(x), jnp.floor(y)
                x, y = x - left, y - top
                left, top = left.astype(jnp.int32), top.astype(jnp.int32)
                found = []
                for down, share_y, slope_y in ((0, 1 - y, -1.0), (1, y, 1.0)):
                    for right, share_x, slope_x in ((0, 1 - x, -1.0), (1, x, 1.0)):
                        column, line = left + right, top + down
                        inside = near & (column >= 0) & (column < width) & (line >= 0) & (line < height)
                        token = base + line * width + column
                        index = (token * self.heads + head) * self.channels
                        found.append(
                            _Corner(
                                index[:, None],
                                inside[:, None],
                                share_y * share_x,
                                share_y * slope_x,
                                share_x * slope_y,
                            )
                        )
                yield place, (height, width), found


def _load(value_ref: Any, corner: _Corner, channel: Array, channels: int) -> Array:
    mask = corner.inside & (channel < channels)
    return triton.load(value_ref.at[corner.first + channel], mask=mask, other=0.0).astype(jnp.float32)


def sampled(shapes: Shapes, value: Array, x: Array, y: Array, weights: Array) -> Array:
    """The samples of `vitjax.ops.sampling.gathered`."""
    rule = "b t m c, b q m l p, b q m l p, b q m l p -> b q m c"
    return divisible(partial(forward, shapes), rule, _WHOLE)(value, x, y, weights)


def sampled_gradients(
    shapes: Shapes, value: Array, x: Array, y: Array, weights: Array, cotangent: Array
) -> tuple[Array, Array, Array, Array]:
    """The gradients of `sampled` to value, x, y and weights."""
    points = ", ".join(["b q m l p"] * 3)
    rule = f"b t m c, {points}, b q m c -> b t m c, {points}"
    return divisible(partial(backward, shapes), rule, _WHOLE)(value, x, y, weights, cotangent)


def forward(
    shapes: Shapes,
    value: Array,
    x: Array,
    y: Array,
    weights: Array,
    *,
    rows: int = ROWS,
    warps: int = 4,
    **options: Any,
) -> Array:
    """`sampled` on one device, with other numbers of rows and warps for measurements; `interpret` runs it on a CPU.

    Raises:
        ValueError: 32 bits cannot count all numbers, as `fit` has it; a mapped function gives those of all.
    """
    _require_fit(value, weights)
    batch, tokens, heads, channels = value.shape
    _, queries, _, levels, points = weights.shape
    total = batch * queries * heads

    def kernel(value_ref: Any, x_ref: Any, y_ref: Any, weight_ref: Any, out_ref: Any) -> None:
        mine = _Rows(shapes, points, (tokens, queries, heads), channels, rows)
        channel, here = jnp.arange(mine.width, dtype=jnp.int32)[None], mine.row < total
        out = jnp.zeros((rows, mine.width), jnp.float32)
        for place, _, corners in mine.corners(x_ref, y_ref, total):
            weight = triton.load(weight_ref.at[mine.row * (levels * points) + place], mask=here, other=0.0)
            for corner in corners:
                out += (weight * corner.share)[:, None] * _load(value_ref, corner, channel, channels)
        mask = here[:, None] & (channel < channels)
        triton.store(out_ref.at[mine.row[:, None] * channels + channel], out.astype(out_ref.dtype), mask=mask)

    call = pl.pallas_call(
        kernel,
        out_shape=jax.ShapeDtypeStruct((total * channels,), value.dtype),
        in_specs=[pl.no_block_spec] * 4,
        out_specs=pl.no_block_spec,
        grid=(pl.cdiv(total, rows),),
        compiler_params=triton.CompilerParams(num_warps=warps, num_stages=1),
        name="sampling",
        **options,
    )
    return call(value.ravel(), *_flat(x, y, weights)).reshape(batch, queries, heads, channels)


def backward(
    shapes: Shapes,
    value: Array,
    x: Array,
    y: Array,
    weights: Array,
    cotangent: Array,
    *,
    rows: int = ROWS_BACK,
    warps: int = 4,
    **options: Any,
) -> tuple[Array, Array, Array, Array]:
    """`sampled_gradients` on one device, as `forward`."""
    _require_fit(value, weights)
    batch, tokens, heads, channels = value.shape
    _, queries, _, levels, points = weights.shape
    total = batch * queries * heads

    def kernel(value_ref: Any, x_ref: Any, y_ref: Any, weight_ref: Any, cotangent_ref: Any, _: Any, *out: Any) -> None:
        by_value_ref, by_x_ref, by_y_ref, by_weight_ref = out
        mine = _Rows(shapes, points, (tokens, queries, heads), channels, rows)
        channel, here = jnp.arange(mine.width, dtype=jnp.int32)[None], mine.row < total
        mask = here[:, None] & (channel < channels)
        given = triton.load(cotangent_ref.at[mine.row[:, None] * channels + channel], mask=mask, other=0.0)
        given = given.astype(jnp.float32)
        for place, (height, width), corners in mine.corners(x_ref, y_ref, total):
            at = mine.row * (levels * points) + place
            weight = triton.load(weight_ref.at[at], mask=here, other=0.0)
            by_x = by_y = by_weight = jnp.zeros(rows, jnp.float32)
            for corner in corners:
                product = (_load(value_ref, corner, channel, channels) * given).sum(1)
                by_x += product * corner.by_x
                by_y += product * corner.by_y
                by_weight += product * corner.share
                added, touched = (weight * corner.share)[:, None] * given, corner.inside & (channel < channels)
                triton.atomic_add(by_value_ref, (corner.first + channel,), added, mask=touched)
            triton.store(by_x_ref.at[at], by_x * weight * width, mask=here)
            triton.store(by_y_ref.at[at], by_y * weight * height, mask=here)
            triton.store(by_weight_ref.at[at], by_weight, mask=here)

    zeros = jnp.zeros(value.size, jnp.float32)
    each = jax.ShapeDtypeStruct((weights.size,), jnp.float32)
    call = pl.pallas_call(
        kernel,
        out_shape=[jax.ShapeDtypeStruct(zeros.shape, zeros.dtype), each, each, each],
        in_specs=[pl.no_block_spec] * 6,
        out_specs=[pl.no_block_spec] * 4,
        grid=(pl.cdiv(total, rows),),
        input_output_aliases={5: 0},  # the sums begin with zeros
        compiler_params=triton.CompilerParams(num_warps=warps, num_stages=1),
        name=_BACKWARD,
        **options,
    )
    found = call(value.ravel(), *_flat(x, y, weights), cotangent.ravel(), zeros)
    like = value, x, y, weights
    return tuple(one.reshape(other.shape).astype(other.dtype) for one, other in zip(found, like, strict=True))


def _require_fit(value: Array, weights: Array) -> None:
    if not fit(value.shape, weights.shape):
        raise ValueError(f"32 bits cannot count values of {value.shape} with weights of {weights.shape}; map fewer.")


def _flat(*arrays: Array) -> list[Array]:
    return [array.astype(jnp.float32).ravel() for array in arrays]
