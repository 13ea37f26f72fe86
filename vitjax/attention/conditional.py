"""Attention in which contents and positions are compared each by itself. Source: Meng et al. 2021, section 3.2."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Bool, Float

from vitjax.attention.multi_head import dropout_of, kernel_for, mixed_after_dropout
from vitjax.errors import FieldError
from vitjax.layers.linear import Dense
from vitjax.ops.convolution import wide_einsum
from vitjax.ops.initializers import torch_bias


class ConditionalAttention(nn.Module):
    """Attention of several heads whose queries and keys have a content and a position, with a linear layer for each.

    The weights, `[batch, heads, queries, keys]`, are sown into `intermediates` when that collection is mutable.
    """

    heads: int
    dropout: float = 0.0
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(
        self,
        query: Float[Array, "batch queries channels"],
        position: Float[Array, "batch queries channels"] | None,
        key: Float[Array, "batch keys channels"],
        key_position: Float[Array, "batch keys channels"],
        valid: Bool[Array, "batch keys"] | None = None,
        spatial: Float[Array, "batch queries channels"] | None = None,
        *,
        train: bool,
    ) -> Float[Array, "batch queries channels"]:
        """Each query's mixture of the valid keys' contents; of all where none is valid.

        With a `position`, it is added to the query's content and the keys' positions to theirs. What `spatial` asks
        for is compared with the keys' positions alone, head by head, and counts as much as the contents.

        Raises:
            FieldError: the channels cannot be divided among the heads.
        """
        channels = query.shape[-1]
        if channels % self.heads:
            raise FieldError(f"attention needs channels divisible by heads={self.heads}; got {channels} channels.")

        def project(x: Array, name: str) -> Array:
            xavier, bias = nn.initializers.xavier_uniform(), torch_bias(channels)
            dense = Dense(channels, dtype=self.dtype, kernel_init=xavier, bias_init=bias, name=name)
            return dense(x).reshape(*x.shape[:2], self.heads, -1)

        q, k, v = project(query, "query_content"), project(key, "key_content"), project(key, "value")
        located = project(key_position, "key_position")
        if position is not None:
            q, k = q + project(position, "query_position"), k + located
        if spatial is not None:
            q = jnp.concatenate([q, project(spatial, "query_spatial")], axis=-1)
            k = jnp.concatenate([k, located], axis=-1)
        mask = None if valid is None else valid[:, None, None, :]
        mixed = self._mixed(q, k, v, mask, train=train).reshape(query.shape)
        return Dense(channels, dtype=self.dtype, kernel_init=nn.initializers.xavier_uniform(), name="out")(mixed)

    def _mixed(self, q: Array, k: Array, v: Array, mask: Array | None, *, train: bool) -> Array:
        weights_wanted = self.is_mutable_collection("intermediates") and not self.is_initializing()
        if not weights_wanted and (kernel := kernel_for(q, k, v)):
            return kernel(*dropout_of(self.dropout, train=train), q, k, v, mask)
        scores = wide_einsum("bqhd,bkhd->bhqk", q, k) / math.sqrt(q.shape[-1])
        scores = scores if mask is None else jnp.where(mask, scores, jnp.finfo(scores.dtype).min)
        weights = jax.nn.softmax(scores, axis=-1)
        self.sow("intermediates", "weights", weights)
        return mixed_after_dropout(*dropout_of(self.dropout, train=train), weights, v)
