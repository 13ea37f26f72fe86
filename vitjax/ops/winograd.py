"""3x3 convolutions on CPUs in fewer multiplications, by minimal filtering.

Source: Lavin and Gray 2016, "Fast Algorithms for Convolutional Neural Networks", F(2x2, 3x3). Two rows and two columns
of the result come of four of the map, in 16 products where the sums over windows have 36. Rounding errors are those of
the sums; larger tiles spare more, and lose a digit.
"""

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

from vitjax.ops.residuals import after

Grid = Sequence[Sequence[Array]]
"""Arrays of one shape, by row and column of a tile, of a kernel or of their products."""

_OF_MAP = np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]], np.float32)
_OF_KERNEL = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]], np.float32)
_OF_PRODUCTS = np.array([[1, 1, 1, 0], [0, 1, -1, -1]], np.float32)
_AROUND = ((1, 1), (1, 1))
_FEWEST = 256
"""Channels on either side from where fewer products outweigh the sums before and after, by measurement.

The gradient by the kernel, in whose other form XLA takes twice the time of its products, gains on fewer.
"""


def winograd_convolution(x: Array, kernel: Array, **options: Any) -> Array:
    """Float32 maps [batch, h, w, in] by a kernel [3, 3, in, out] with stride 1 and a margin of one zero all around.

    Only where many channels make it worth it, and only on CPUs. `options` are those of `lax.conv_general_dilated`.
    """
    return _convolution(tuple(options.items()), x, kernel)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _convolution(options: Any, x: Array, kernel: Array) -> Array:
    direct = partial(_direct, options)
    by_tiles = _value if min(kernel.shape[2:]) >= _FEWEST else direct
    return lax.platform_dependent(x, kernel, cpu=by_tiles, default=direct)


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

    cpu_by_x = turned if min(kernel.shape[2:]) >= _FEWEST else by_x
    return (
        lax.platform_dependent(kernel, cotangent, cpu=cpu_by_x, default=by_x),
        lax.platform_dependent(x, cotangent, cpu=_kernel_gradient, default=by_kernel),
    )


_convolution.defvjp(_forward, _backward)


def _value(x: Array, kernel: Array, *, turned: bool = False) -> Array:
    """The convolution by tiles; `turned` is the one by which gradients go back, with a kernel [3, 3, out, in]."""
    height, width = x.shape[1:3]
    of_map, of_kernel = _tiles(x), _transformed(kernel, _OF_KERNEL)
    if turned:  # the transformed kernel, turned by 180 degrees, has the same numbers in another order
        of_kernel = [[of_kernel[i][j] for j in (3, 1, 2, 0)] for i in (3, 1, 2, 0)]
    over = (((1,), (1 if turned else 0,)), ((), ()))
    products = _each(lambda d, u: lax.dot_general(_rows(d), u, over), of_map, of_kernel)
    four = jnp.stack([jnp.stack(line) for line in _transformed(products, _OF_PRODUCTS)])
    tiled = rearrange(four, "i j (b h w) c -> b (h i) (w j) c", b=x.shape[0], h=-(-height // 2))
    return tiled[:, :height, :width]


def _kernel_gradient(x: Array, cotangent: Array) -> Array:
    x = after(x, cotangent)  # tiles are four times as large
    height, width = cotangent.shape[1:3]
    even = jnp.pad(cotangent, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)))
    four = [[even[:, i::2, j::2] for j in range(2)] for i in range(2)]
    of_map, of_result = _tiles(x), _transformed(four, _OF_PRODUCTS.T)
    products = _each(lambda d, e: _rows(d).T @ _rows(e), of_map, of_result)
    return jnp.stack([jnp.stack(line) for line in _transformed(products, _OF_KERNEL.T)])


def _tiles(x: Array) -> list[list[Array]]:
    """Tiles of 4x4, from one before every second row and column on, transformed: 16 maps of half the sides."""
    down, across = (-(-length // 2) for length in x.shape[1:3])
    padded = jnp.pad(x, ((0, 0), (1, 2 * down + 1 - x.shape[1]), (1, 2 * across + 1 - x.shape[2]), (0, 0)))
    places = [[padded[:, i : i + 2 * down - 1 : 2, j : j + 2 * across - 1 : 2] for j in range(4)] for i in range(4)]
    return _transformed(places, _OF_MAP)


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
