"""Scaled dot-product attention with several heads. Source: Vaswani et al. 2017, section 3.2."""

import math
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Bool, Float

from vitjax.errors import FieldError
from vitjax.ops.initializers import fused_qkv_kernel


class MultiHeadAttention(nn.Module):
    """softmax(Q K^T / sqrt(d)) V per head, with dropout on the weights, between two linear layers.

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
        value: Float[Array, "batch keys channels"],
        valid: Bool[Array, "batch keys"] | None = None,
        *,
        train: bool,
    ) -> Float[Array, "batch queries channels"]:
        """Each query's mixture of the valid values.

        Raises:
            FieldError: the channels cannot be divided among the heads.
        """
        channels = query.shape[-1]
        if channels % self.heads:
            raise FieldError(f"attention needs channels divisible by heads={self.heads}; got {channels} channels.")
        project = partial(nn.Dense, channels, dtype=self.dtype, kernel_init=fused_qkv_kernel)

        def split(x: Array, name: str) -> Array:
            return project(name=name)(x).reshape(*x.shape[:2], self.heads, -1)

        q, k, v = split(query, "query"), split(key, "key"), split(value, "value")
        mask = None if valid is None else valid[:, None, None, :]
        weights_wanted = self.is_mutable_collection("intermediates") and not self.is_initializing()
        if (train and self.dropout > 0) or weights_wanted:
            mixed = self._explicit(q, k, v, mask, train=train)
        else:
            mixed = jax.nn.dot_product_attention(q, k, v, mask=mask)
        mixed = mixed.reshape(*query.shape[:2], channels)
        return nn.Dense(channels, dtype=self.dtype, kernel_init=nn.initializers.xavier_uniform(), name="out")(mixed)

    def _explicit(self, q: Array, k: Array, v: Array, mask: Array | None, *, train: bool) -> Array:
        """Attention with the weights at hand, for dropout and for a look at them."""
        scores = jnp.einsum("bqhd,bkhd->bhqk", q, k, preferred_element_type=jnp.float32) / math.sqrt(q.shape[-1])
        scores = scores if mask is None else jnp.where(mask, scores, jnp.finfo(scores.dtype).min)
        weights = jax.nn.softmax(scores, axis=-1)
        self.sow("intermediates", "weights", weights)
        weights = nn.Dropout(self.dropout)(weights, deterministic=not train)
        return jnp.einsum("bhqk,bkhd->bqhd", weights.astype(v.dtype), v)
