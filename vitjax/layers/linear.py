"""Linear layers over the last axis, and the dropout between them."""

from functools import partial

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Key

from vitjax.ops.convolution import last_axis_product
from vitjax.ops.residuals import dropped, hashed_bits, product_of_made, scale_of_others

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
        return dropout(self.rate, self.make_rng("dropout"), x)


def dropout(rate: float, key: Key[Array, ""] | None, x: Array) -> Array:
    """`x` with zeros of that probability, above 0, and the others larger; with no key `x` as it is."""
    if key is None:
        return x
    return jnp.where(dropped(hashed_bits(key, x.shape), rate), 0, x * scale_of_others(rate))


def rectified_product(rate: float, key: Key[Array, ""] | None, x: Array, kernel: Array) -> Array:
    """max(x, 0), with a key after dropout of that rate, times a kernel [in, out]; x alone is kept for the gradients."""
    return product_of_made(last_axis_product, partial(_rectified, rate), key, x, kernel)


def _rectified(rate: float, key: Key[Array, ""] | None, x: Array) -> Array:
    return dropout(rate, key, nn.relu(x))
