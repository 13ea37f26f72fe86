"""Convolutions as `nn.Conv` calls them, and linear layers as `nn.Dense` does, in the forms that run fast."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from jax import Array, lax

from vitjax.ops.residuals import after

_WIDE = 128
"""Channels from which on a 3x3 kernel has a faster form."""


def last_axis_product(x: Array, kernel: Array, dimension_numbers: Any = None, precision: Any = None) -> Array:
    """[..., in] times [in, out] is [..., out]; `dimension_numbers`, which `nn.Dense` hands over, can say nothing else.

    The leading axes are made one first. A product over several of them, as the kernel's gradient then is, makes XLA
    write a transposed copy of the cotangent on CPUs, which took a sixth of a training step of DETR.
    """
    rows = _product(precision, rearrange(x, "... i -> (...) i"), kernel)
    return rows.reshape(*x.shape[:-1], kernel.shape[1])


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def wide_einsum(subscripts: str, x: Array, y: Array) -> Array:
    """`jnp.einsum` in float32 of what may be narrower, with gradients that are products of the narrow numbers again."""
    return jnp.einsum(subscripts, x, y, preferred_element_type=jnp.float32)


def _einsum_backward(subscripts: str, kept: tuple[Array, Array], cotangent: Array) -> tuple[Array, Array]:
    return jax.vjp(partial(jnp.einsum, subscripts), *kept)[1](cotangent.astype(jnp.result_type(*kept)))


wide_einsum.defvjp(lambda subscripts, *given: (wide_einsum(subscripts, *given), given), _einsum_backward)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _product(precision: Any, x: Array, kernel: Array) -> Array:
    return lax.dot(x, kernel, precision=precision)


def _product_backward(precision: Any, kept: tuple[Array, Array], cotangent: Array) -> tuple[Array, Array]:
    x, kernel = kept
    by_x = lax.dot(cotangent, kernel.T, precision=precision)
    if kernel.shape[0] <= kernel.shape[1] or x.shape[0] < 2 * kernel.shape[0]:
        return by_x, lax.dot(x.T, cotangent, precision=precision)
    # On CPUs the transposed side costs; the result of few rows costs more. `after` keeps XLA from turning it back.
    return by_x, after(lax.dot(cotangent.T, x, precision=precision), cotangent).T


_product.defvjp(lambda precision, *given: (_product(precision, *given), given), _product_backward)


def conv_general_dilated(
    inputs: Array, kernel: Array, window_strides: Sequence[int], padding: Any, **options: Any
) -> Array:
    """`lax.conv_general_dilated` on NHWC, HWIO; a dense 1x1 kernel becomes a matrix product of the strided pixels.

    On a CPU the product runs two to three times faster than XLA's convolution; elsewhere the two are the same. Dense
    kernels with a stride, and of 3x3 on many channels, have forms of their own there.
    """
    dilations = {*(options.get("lhs_dilation") or ()), *(options.get("rhs_dilation") or ())}
    dense = kernel.ndim == 4 and dilations <= {1} and options.get("feature_group_count", 1) == 1
    around = None if isinstance(padding, str) else {*map(tuple, padding)}
    wide = min(kernel.shape[2:]) >= _WIDE and inputs.dtype == kernel.dtype == np.float32
    if dense and kernel.shape[:2] == (1, 1) and around in (None, {(0, 0)}):
        strided = inputs[:, :: window_strides[0], :: window_strides[1]]
        return last_axis_product(strided, kernel[0, 0], precision=options.get("precision"))
    if dense and set(window_strides) != {1}:
        from vitjax.ops.strided_convolution import strided_convolution

        return strided_convolution(inputs, kernel, window_strides, padding, **options)
    if dense and wide and kernel.shape[:2] == (3, 3) and around == {(1, 1)}:
        from vitjax.ops.winograd import winograd_convolution

        return winograd_convolution(inputs, kernel, **options)
    return lax.conv_general_dilated(inputs, kernel, window_strides, padding, **options)
