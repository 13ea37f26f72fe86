"""3x3 convolutions on CPUs in fewer multiplications, by minimal filtering.

Source: Lavin and Gray 2016, "Fast Algorithms for Convolutional Neural Networks", F(2x2, 3x3). Two rows and two columns
of the result come of four of the map, in 16 products where the sums over windows have 36. Rounding errors are those of
the sums; larger tiles spare more, and lose a digit.
"""

import dataclasses
import functools
import operator
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from jax import Array, lax

from vitjax.ops.processors import processors
from vitjax.ops.residuals import after

Grid = Sequence[Sequence[Array]]
"""Arrays of one shape, by row and column of a tile, of a kernel or of their products."""

_OF_MAP = np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]], np.float32)
_OF_KERNEL = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]], np.float32)
_OF_PRODUCTS = np.array([[1, 1, 1, 0], [0, 1, -1, -1]], np.float32)
_AROUND = ((1, 1), (1, 1))
_AT_ONCE = 768
"""Tiles for each processor that are computed together, by measurement."""


def winograd_convolution(x: Array, kernel: Array, **options: Any) -> Array:
    """Float32 maps [batch, h, w, in] by a kernel [3, 3, in, out] with stride 1 and a margin of one zero all around.

    Only where many channels make it worth it, and only on CPUs. `options` are those of `lax.conv_general_dilated`.
    """
    return _convolution(tuple(options.items()), x, kernel)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _convolution(options: Any, x: Array, kernel: Array) -> Array:
    return lax.platform_dependent(x, kernel, cpu=_value, default=partial(_direct, options))


def _direct(options: Any, x: Array, kernel: Array) -> Array:
    return lax.conv_general_dilated(x, kernel, (1, 1), _AROUND, **dict(options))


def _forward(options: Any, x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return _convolution(options, x, kernel), (x, kernel)


def _backward(options: Any, kept: tuple[Array, Array], cotangent: Array) -> tuple[Array, Array]:
    x, kernel = kept
    direct = partial(_direct, options)

    def by_x(kernel: Array, cotangent: Array) -> Array:
        return jax.linear_transpose(lambda x: direct(x, kernel), x)(cotangent)[0]

    def by_kernel(x: Array, cotangent: Array) -> Array:
        return jax.linear_transpose(lambda kernel: direct(x, kernel), kernel)(cotangent)[0]

    def turned(kernel: Array, cotangent: Array) -> Array:
        return _value(cotangent, kernel, turned=True)

    return (
        lax.platform_dependent(kernel, cotangent, cpu=turned, default=by_x),
        lax.platform_dependent(x, cotangent, cpu=_kernel_gradient, default=by_kernel),
    )


_convolution.defvjp(_forward, _backward)


def _value(x: Array, kernel: Array, *, turned: bool = False) -> Array:
    """The convolution by tiles; `turned` is the one by which gradients go back, with a kernel [3, 3, out, in]."""
    batch, height, width, _ = x.shape
    of_kernel = _transformed(kernel, _OF_KERNEL)
    if turned:  # the transformed kernel, turned by 180 degrees, has the same numbers in another order
        of_kernel = [[of_kernel[i][j] for j in (3, 1, 2, 0)] for i in (3, 1, 2, 0)]
    over = (((1,), (1 if turned else 0,)), ((), ()))
    strips = _Strips.of(x)
    tall = strips.tall(x)

    def convolved(place: Any, whole: Array) -> Array:
        of_map = _transformed(strips.tiles(tall, place), _OF_MAP)
        products = _each(lambda d, u: lax.dot_general(_rows(d), u, over), of_map, of_kernel)
        four = jnp.stack([jnp.stack(line) for line in _transformed(products, _OF_PRODUCTS)])
        strip = rearrange(four, "i j (b h w) c -> b (h i) (w j) c", b=batch, h=strips.rows)
        return lax.dynamic_update_slice_in_dim(whole, strip[:, :, :width], 2 * strips.rows * place, axis=1)

    features = kernel.shape[2 if turned else 3]
    whole = jnp.zeros((batch, 2 * strips.rows * strips.count, width, features), x.dtype)
    return lax.fori_loop(0, strips.count, convolved, whole)[:, :height]


def _kernel_gradient(x: Array, cotangent: Array) -> Array:
    x = after(x, cotangent)  # tiles are four times as large
    strips = _Strips.of(x)
    tall, tall_cotangent = strips.tall(x), strips.tall(cotangent)

    def added(place: Any, total: Array) -> Array:
        of_map = _transformed(strips.tiles(tall, place), _OF_MAP)
        of_result = _transformed(strips.squares(tall_cotangent, place), _OF_PRODUCTS.T)
        products = _each(lambda d, e: _rows(d).T @ _rows(e), of_map, of_result)
        return total + jnp.stack([jnp.stack(line) for line in _transformed(products, _OF_KERNEL.T)])

    return lax.fori_loop(0, strips.count, added, jnp.zeros((3, 3, x.shape[-1], cotangent.shape[-1]), x.dtype))


@dataclasses.dataclass(frozen=True)
class _Strips:
    """Maps [batch, h, w, channels] as strips of so many rows of tiles, with the columns of tiles that they have.

    The tiles of a strip, four times as large as it, stay in the processor's cache from one step to the next.
    """

    rows: int
    count: int
    columns: int

    @classmethod
    def of(cls, x: Array) -> "_Strips":
        batch, height, width, _ = x.shape
        down, columns = -(-height // 2), -(-width // 2)
        if not all(isinstance(side, int) for side in (batch, down, columns)):  # a program for any size
            return cls(down, 1, columns)
        rows = -(-down // max(1, round(batch * down * columns / (_AT_ONCE * processors()))))
        return cls(rows, -(-down // rows), columns)

    def tall(self, x: Array) -> Array:
        """The maps from one row before to one after the tiles."""
        return jnp.pad(x, ((0, 0), (1, 2 * self.rows * self.count + 1 - x.shape[1]), (0, 0), (0, 0)))

    def tiles(self, tall: Array, place: Any) -> Grid:
        """Tiles of 4x4 of a strip, from one before every second row and column on: 16 maps of half its sides."""
        return self._every_second(tall, place, range(4))

    def squares(self, tall: Array, place: Any) -> Grid:
        """The squares of 2x2 in the midst of them: four maps of half its sides."""
        return self._every_second(tall, place, (1, 2))

    def _every_second(self, tall: Array, place: Any, starts: Sequence[int]) -> Grid:
        strip = lax.dynamic_slice_in_dim(tall, 2 * self.rows * place, 2 * self.rows + 2, axis=1)
        # With columns before and after it a strip is laid out once, and not cut anew for each of the maps.
        strip = jnp.pad(strip, ((0, 0), (0, 0), (1, 2 * self.columns + 1 - tall.shape[2]), (0, 0)))
        down, across = 2 * self.rows, 2 * self.columns
        return [[strip[:, i : i + down : 2, j : j + across : 2] for j in starts] for i in starts]


def _rows(x: Array) -> Array:
    return rearrange(x, "b h w c -> (b h w) c")


def _each(product: Callable[[Array, Array], Array], one: Grid, other: Grid) -> list[list[Array]]:
    """The products of two grids place by place."""
    return [list(map(product, *lines)) for lines in zip(one, other, strict=True)]


def _transformed(grid: Grid | Array, matrix: np.ndarray) -> list[list[Array]]:
    """The matrix times the grid times the transposed matrix."""
    columns = [[_weighted(column, weights) for weights in matrix] for column in zip(*grid, strict=True)]
    return [[_weighted(line, weights) for weights in matrix] for line in zip(*columns, strict=True)]


def _weighted(terms: Iterable[Array], weights: np.ndarray) -> Array:
    """The sum of the terms that weigh anything."""
    parts = (term if weight == 1 else weight * term for term, weight in zip(terms, weights, strict=True) if weight)
    return functools.reduce(operator.add, parts)
