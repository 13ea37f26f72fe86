"""Linear layers over the last axis, and the dropout between them."""

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Key

from vitjax.ops.convolution import last_axis_product
from vitjax.ops.residuals import after, dropped, hashed_bits, scale_of_others

Dense = partial(nn.Dense, dot_general=last_axis_product)
"""`nn.Dense`, computed as one product of matrices whatever the leading axes are."""


class Dropout(nn.Module):
    """In training sets numbers to zero with a probability and scales up the others (Srivastava et al. 2014).

    As `nn.Dropout`, with bits that cost next to nothing to draw and to compile. Draws from the stream `dropout`.
    """

    rate: float
    """Probability of a zero."""

    @nn.compact
    def __call__(self, x: Float[Array, "*shape"], *, train: bool) -> Float[Array, "*shape"]:
        """`x`, in training with zeros and the others larger; the mean stays."""
        if not train or self.rate == 0:
            return x
        left_out = dropped(hashed_bits(self.make_rng("dropout"), x.shape), self.rate)
        return jnp.where(left_out, 0, x * scale_of_others(self.rate))


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def rectified_product(rate: float, key: Key[Array, ""] | None, x: Array, kernel: Array) -> Array:
    """max(x, 0), with a key after dropout of that rate, times a kernel [in, out]; x alone is kept for the gradients."""
    return last_axis_product(_rectified(rate, key, x), kernel)


def _product_forward(rate: float, key: Any, x: Array, kernel: Array) -> tuple[Array, tuple[Any, ...]]:
    return rectified_product(rate, key, x, kernel), (key, x, kernel)


def _product_backward(rate: float, kept: tuple[Any, ...], cotangent: Array) -> tuple[None, Array, Array]:
    key, x, kernel = kept
    rectified, through = jax.vjp(partial(_rectified, rate, key), after(x, cotangent))
    by_rectified, by_kernel = jax.vjp(last_axis_product, rectified, kernel)[1](cotangent)
    return None, *through(by_rectified), by_kernel


def _rectified(rate: float, key: Any, x: Array) -> Array:
    if key is None:
        return nn.relu(x)
    left_out = dropped(hashed_bits(key, x.shape), rate)
    return jnp.where(left_out, 0, nn.relu(x) * scale_of_others(rate))


rectified_product.defvjp(_product_forward, _product_backward)
