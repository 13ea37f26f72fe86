"""The feed-forward network of vision transformers."""

from functools import partial
from typing import Any

import flax.linen as nn
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Float

from vitjax.layers.linear import Dense
from vitjax.ops.activations import gelu
from vitjax.ops.convolution import last_axis_product
from vitjax.ops.residuals import product_of_made


class GeluFeedForward(nn.Module):
    """Exact GELU network of one hidden layer, as vision transformers have it (Dosovitskiy et al. 2021)."""

    hidden: int
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "*batch channels"]) -> Float[Array, "*batch channels"]:
        """`x` through both layers, with as many channels as before."""
        dense = partial(Dense, dtype=self.dtype, kernel_init=nn.initializers.normal(0.02))
        h = dense(self.hidden, name="expand")(x)
        return dense(x.shape[-1], name="contract", dot_general=_product)(h)


def _product(x: Array, kernel: Array, *_: Any, **__: Any) -> Array:  # as `nn.Dense` calls it
    return product_of_made(last_axis_product, _gelu, None, x, kernel)


def _gelu(_: None, x: Array) -> Array:
    return gelu(x)
