"""The two-layer feed-forward network of a transformer, and the small perceptron of a head."""

from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Float

from vitjax.layers.linear import Dense, rectified_product
from vitjax.ops.initializers import torch_bias, torch_kernel


class FeedForward(nn.Module):
    """ReLU network of one hidden layer with dropout on it (Vaswani et al. 2017, section 3.3)."""

    hidden: int
    dropout: float = 0.0
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "*batch channels"], *, train: bool) -> Float[Array, "*batch channels"]:
        """`x` through both layers, with as many channels as before."""
        channels = x.shape[-1]
        dense = partial(Dense, dtype=self.dtype, kernel_init=nn.initializers.xavier_uniform())
        h = dense(self.hidden, bias_init=torch_bias(channels), name="expand")(x)
        key = self.make_rng("dropout") if train and self.dropout > 0 else None

        def product(h: Array, kernel: Array, *_: Any, **__: Any) -> Array:  # as `nn.Dense` calls it
            return rectified_product(self.dropout, key, h, kernel)

        return dense(channels, bias_init=torch_bias(self.hidden), name="contract", dot_general=product)(h)


class Perceptron(nn.Module):
    """ReLU perceptron of `layers` linear layers with torch's initialisation, as DETR's box head is.

    With `start` the last layer begins with a kernel of zeros and this bias, so that it answers `start` to everything.
    """

    hidden: int
    outputs: int
    layers: int = 3
    start: tuple[float, ...] | None = None
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "*batch channels"]) -> Float[Array, "*batch outputs"]:
        """`x` through all layers; no activation after the last."""
        for i in range(self.layers):
            last = i == self.layers - 1
            features = self.outputs if last else self.hidden
            kernel, bias = torch_kernel, torch_bias(x.shape[-1])
            if last and self.start is not None:
                kernel, bias = nn.initializers.zeros, lambda *_: jnp.array(self.start)
            x = Dense(features, dtype=self.dtype, kernel_init=kernel, bias_init=bias, name=f"layer_{i}")(x)
            x = x if last else nn.relu(x)
        return x
