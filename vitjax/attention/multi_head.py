"""Scaled dot-product attention with several heads. Source: Vaswani et al. 2017, section 3.2."""

import math
from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Bool, Float

from vitjax.errors import FieldError
from vitjax.layers.linear import Dense, Dropout, dropout
from vitjax.ops.convolution import wide_einsum
from vitjax.ops.initializers import fused_qkv_kernel
from vitjax.ops.residuals import product_of_made

Kernel = Callable[[float, Array | None, Array, Array, Array, Array | None], Array]
Pairs = Bool[Array, "*batch queries keys"]
"""Which query may look at which key, in all images alike or in each."""


class MultiHeadAttention(nn.Module):
    """softmax(Q K^T / sqrt(d)) V per head, with dropout on the weights, between two linear layers.

    Queries and keys are projected to the width of the queries, values and the result to that of the values.
    The weights, `[batch, heads, queries, keys]`, are sown into `intermediates` when that collection is mutable.
    """

    heads: int
    dropout: float = 0.0
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(
        self,
        query: Float[Array, "batch queries channels"],
        key: Float[Array, "batch keys channels"],
        value: Float[Array, "batch keys width"],
        valid: Bool[Array, "batch keys"] | None = None,
        pairs: Pairs | None = None,
        *,
        train: bool,
    ) -> Float[Array, "batch queries width"]:
        """Each query's mixture of the valid values that it may look at; of all values where it may look at none.

        Raises:
            FieldError: the channels cannot be divided among the heads.
        """
        channels, width = query.shape[-1], value.shape[-1]
        for size in (channels, width):
            if size % self.heads:
                raise FieldError(f"attention needs channels divisible by heads={self.heads}; got {size} channels.")

        def split(x: Array, name: str, features: int) -> Array:
            project = Dense(features, dtype=self.dtype, kernel_init=fused_qkv_kernel, name=name)
            return project(x).reshape(*x.shape[:2], self.heads, -1)

        q, k, v = split(query, "query", channels), split(key, "key", channels), split(value, "value", width)
        mask = None if valid is None else valid[:, None, None, :]
        if pairs is not None:
            allowed = pairs[..., None, :, :].reshape(-1, 1, *pairs.shape[-2:])
            mask = allowed if mask is None else mask & allowed
        weights_wanted = self.is_mutable_collection("intermediates") and not self.is_initializing()
        if not weights_wanted and (kernel := kernel_for(q, k, v)):
            mixed = kernel(*dropout_of(self.dropout, train=train), q, k, v, mask)
        elif (train and self.dropout > 0) or weights_wanted or width != channels:
            mixed = self._explicit(q, k, v, mask, train=train)
        else:
            mixed = jax.nn.dot_product_attention(q, k, v, mask=mask)
        mixed = mixed.reshape(*query.shape[:2], width)
        return Dense(width, dtype=self.dtype, kernel_init=nn.initializers.xavier_uniform(), name="out")(mixed)

    def _explicit(self, q: Array, k: Array, v: Array, mask: Array | None, *, train: bool) -> Array:
        """Attention with the weights at hand, for dropout and for a look at them."""
        scores = wide_einsum("bqhd,bkhd->bhqk", q, k) / math.sqrt(q.shape[-1])
        scores = scores if mask is None else jnp.where(mask, scores, jnp.finfo(scores.dtype).min)
        weights = jax.nn.softmax(scores, axis=-1)
        self.sow("intermediates", "weights", weights)
        return mixed_after_dropout(*dropout_of(self.dropout, train=train), weights, v)


def kernel_for(q: Array, k: Array, v: Array) -> Kernel | None:
    """What a GPU mixes such values by, from a rate of dropout, its key, q, k, v and a mask [batch 1 queries keys]."""
    from vitjax.ops.kernels import attend  # which are for GPUs alone

    if not attend(q, k, v):
        return None
    from vitjax.ops.kernels.attention import attention

    return attention


def dropout_of(rate: float, *, train: bool) -> tuple[float, Array | None]:
    """The rate that counts, and the key that `Dropout` would draw with in its place."""
    return (rate, Dropout(rate).make_rng("dropout")) if train and rate > 0 else (0.0, None)


def mixed_after_dropout(rate: float, key: Array | None, weights: Array, v: Array) -> Array:
    """Values [batch keys heads width] in the mixtures of the weights [batch heads queries keys] that dropout leaves."""
    return product_of_made(partial(jnp.einsum, "bhqk,bkhd->bqhd"), partial(_left, rate, v.dtype), key, weights, v)


def _left(rate: float, dtype: DTypeLike, key: Array | None, weights: Array) -> Array:
    return dropout(rate, key, weights).astype(dtype)
