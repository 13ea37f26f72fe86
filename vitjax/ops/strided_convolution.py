"""Strided convolutions whose input gradients are not computed on a map that is zeros for the most part."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from einops import rearrange
from jax import Array

from vitjax.ops.convolution import conv_general_dilated


def strided_convolution(
    inputs: Array,
    kernel: Array,
    window_strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    **options: Any,
) -> Array:
    """`conv_general_dilated`, with the gradient by the inputs phase by phase where the stride divides kernel and map.

    The textbook's form spreads the cotangent over the finer map and convolves that: with a stride of 2 three products
    of four are with zeros. The inputs of one phase, every `stride`-th row and column, see the same part of the kernel.
    """
    stride, side, (low, high) = window_strides[0], kernel.shape[0], padding[0]
    square = kernel.shape[1] == side and set(window_strides) == {stride} and set(padding) == {(low, high)}
    whole = not any(length % stride for length in (side, *inputs.shape[1:3])) and low + high == side - stride
    dilated = set((*(lhs_dilation or ()), *(rhs_dilation or ()))) - {1}
    if stride == 1 or not (square and whole) or dilated or options.get("feature_group_count", 1) != 1:
        return conv_general_dilated(inputs, kernel, window_strides, padding, lhs_dilation, rhs_dilation, **options)
    return _by_phases(stride, ((low, high),) * 2, tuple(options.items()), inputs, kernel)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _by_phases(stride: int, padding: Any, options: Any, inputs: Array, kernel: Array) -> Array:
    return conv_general_dilated(inputs, kernel, (stride, stride), padding, **dict(options))


def _forward(stride: int, padding: Any, options: Any, inputs: Array, kernel: Array) -> tuple[Array, Any]:
    return _by_phases(stride, padding, options, inputs, kernel), (inputs, kernel)


def _backward(stride: int, padding: Any, options: Any, kept: Any, cotangent: Array) -> tuple[Array, Array]:
    inputs, kernel = kept

    def of_kernel(kernel: Array) -> Array:
        return conv_general_dilated(inputs, kernel, (stride, stride), padding, **dict(options))

    by_kernel = jax.linear_transpose(of_kernel, kernel)(cotangent)[0]
    low = padding[0][0]
    taps = kernel.shape[0] // stride  # of each phase, which the kernel's own order makes run backwards
    parts = rearrange(kernel[::-1, ::-1], "(h i) (w j) c o -> i j h w o c", i=stride, j=stride)

    def of_phase(row: int, column: int) -> Array:
        (before, i), (left, j) = divmod(row + low, stride), divmod(column + low, stride)
        margins = ((taps - 1 - before, before), (taps - 1 - left, left))
        return conv_general_dilated(cotangent, parts[-1 - i, -1 - j], (1, 1), margins, **dict(options))

    phases = jnp.stack([jnp.stack([of_phase(i, j) for j in range(stride)]) for i in range(stride)])
    return rearrange(phases, "i j b h w c -> b (h i) (w j) c"), by_kernel


_by_phases.defvjp(_forward, _backward)
