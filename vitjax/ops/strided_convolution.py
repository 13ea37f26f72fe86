"""Strided convolutions whose gradients are computed without zeros between the numbers."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from einops import rearrange
from jax import Array, lax

from vitjax.ops.residuals import after

_WIDE = 128
"""Channels from which on a product for each place of a small kernel gives its gradient sooner than a convolution."""


def strided_convolution(
    inputs: Array, kernel: Array, window_strides: Sequence[int], padding: Any, **options: Any
) -> Array:
    """`lax.conv_general_dilated` of dense kernels on NHWC, HWIO, with gradients that CPUs compute in less time.

    By the inputs the textbook's form spreads the cotangent over the finer map and convolves that: with a stride of 2
    three products of four are with zeros. The inputs of one phase, every `stride`-th row and column, see the same part
    of the kernel, so here each phase is a convolution.
    """
    stride, side = window_strides[0], kernel.shape[0]
    if isinstance(padding, str) or set(window_strides) != {stride} or not kernel.shape[1] == side >= stride > 1:
        return lax.conv_general_dilated(inputs, kernel, window_strides, padding, **options)
    return _by_phases(stride, tuple(map(tuple, padding)), tuple(options.items()), inputs, kernel)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _by_phases(stride: int, padding: Any, options: Any, inputs: Array, kernel: Array) -> Array:
    return lax.conv_general_dilated(inputs, kernel, (stride, stride), padding, **dict(options))


def _forward(stride: int, padding: Any, options: Any, inputs: Array, kernel: Array) -> tuple[Array, Any]:
    return _by_phases(stride, padding, options, inputs, kernel), (inputs, kernel)


def _backward(stride: int, padding: Any, options: Any, kept: Any, cotangent: Array) -> tuple[Array, Array]:
    inputs, kernel = kept

    def of(inputs: Array, kernel: Array) -> Array:
        return lax.conv_general_dilated(inputs, kernel, (stride, stride), padding, **dict(options))

    def by_transposition(kernel: Array, cotangent: Array) -> Array:
        return jax.linear_transpose(lambda inputs: of(inputs, kernel), inputs)(cotangent)[0]

    def by_phases(kernel: Array, cotangent: Array) -> Array:
        height, width = (-(-length // stride) for length in inputs.shape[1:3])

        def of_phase(row: int, column: int) -> Array:
            (top, i), (left, j) = divmod(row + padding[0][0], stride), divmod(column + padding[1][0], stride)
            taps = rearrange(kernel[i::stride, j::stride][::-1, ::-1], "h w c o -> h w o c")
            margins = (
                (taps.shape[0] - 1 - top, height + top - cotangent.shape[1]),
                (taps.shape[1] - 1 - left, width + left - cotangent.shape[2]),
            )
            # Cut by `pad`: of a convolution's own padding XLA for CPUs reads beyond the map where some is negative.
            cuts = [(0, 0, 0), *((min(low, 0), min(high, 0), 0) for low, high in margins), (0, 0, 0)]
            filled = [(max(low, 0), max(high, 0)) for low, high in margins]
            cut = lax.pad(cotangent, jnp.zeros((), cotangent.dtype), cuts)
            return lax.conv_general_dilated(cut, taps, (1, 1), filled, **dict(options))

        phases = jnp.stack([jnp.stack([of_phase(i, j) for j in range(stride)]) for i in range(stride)])
        return rearrange(phases, "i j b h w c -> b (h i) (w j) c")[:, : inputs.shape[1], : inputs.shape[2]]

    def by_convolution(inputs: Array, cotangent: Array) -> Array:
        return jax.linear_transpose(lambda kernel: of(inputs, kernel), kernel)(cotangent)[0]

    def by_taps(inputs: Array, cotangent: Array) -> Array:
        cuts = [(0, 0, 0), *((*sides, 0) for sides in padding), (0, 0, 0)]
        padded = lax.pad(after(inputs, cotangent), jnp.zeros((), inputs.dtype), cuts)
        reach = [(length - 1) * stride + 1 for length in cotangent.shape[1:3]]
        rows = rearrange(cotangent, "b h w o -> (b h w) o")

        def of_tap(i: int, j: int) -> Array:
            seen = padded[:, i : i + reach[0] : stride, j : j + reach[1] : stride]
            return rearrange(seen, "b h w c -> (b h w) c").T @ rows

        return jnp.stack([jnp.stack([of_tap(i, j) for j in range(kernel.shape[1])]) for i in range(kernel.shape[0])])

    taps = kernel.shape[0] <= 3 and min(kernel.shape[2:]) >= _WIDE
    return (
        lax.platform_dependent(kernel, cotangent, cpu=by_phases, default=by_transposition),
        lax.platform_dependent(inputs, cotangent, cpu=by_taps if taps else by_convolution, default=by_convolution),
    )


_by_phases.defvjp(_forward, _backward)
