"""Convolutions inside control flow, in the form whose gradients run fast there."""

from collections.abc import Sequence
from typing import Any

import jax
from einops import rearrange
from jax import Array, lax

from vitjax.ops.convolution import conv_general_dilated


def convolution_in_parts(
    inputs: Array, kernel: Array, window_strides: Sequence[int], padding: Any, **options: Any
) -> Array:
    """`conv_general_dilated` for the bodies of `lax.scan`, `lax.cond` and the like: gradients are fast there, too.

    XLA brings gradients of convolutions into the form that is fast on CPUs only outside of control flow; inside they
    take twenty times as long. Here those of dense 3x3 kernels without stride have that form from the beginning. Their
    derivative is for reverse mode alone.
    """
    around = [(1, 1), (1, 1)]
    steps = (*window_strides, *(options.get("lhs_dilation") or ()), *(options.get("rhs_dilation") or ()))
    dense = kernel.shape[:3] == (3, 3, inputs.shape[-1])
    if not dense or set(steps) != {1} or list(padding) != around:
        return conv_general_dilated(inputs, kernel, window_strides, padding, **options)

    def convolve(x: Array, kernel: Array) -> Array:
        return conv_general_dilated(x, kernel, (1, 1), around, **options)

    def by_xla(x: Array, kernel: Array, cotangent: Array) -> tuple[Array, Array]:
        return jax.vjp(convolve, x, kernel)[1](cotangent)

    def by_convolutions(x: Array, kernel: Array, cotangent: Array) -> tuple[Array, Array]:
        of_x = convolve(cotangent, rearrange(kernel[::-1, ::-1], "h w i o -> h w o i"))
        of_kernel = convolve(rearrange(x, "b h w i -> i h w b"), rearrange(cotangent, "b h w o -> h w b o"))
        return of_x, rearrange(of_kernel, "i h w o -> h w i o")

    def backward(kept: tuple[Array, Array], cotangent: Array) -> tuple[Array, Array]:
        return lax.platform_dependent(*kept, cotangent, cpu=by_convolutions, default=by_xla)

    convolved = jax.custom_vjp(convolve)
    convolved.defvjp(lambda x, kernel: (convolve(x, kernel), (x, kernel)), backward)
    return convolved(inputs, kernel)
