"""DETR's transformer decoder. Source: Carion et al. 2020, section 3.2 and appendix A.3."""

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Bool, Float

from vitjax.attention.multi_head import MultiHeadAttention
from vitjax.layers.feed_forward import FeedForward


class DecoderLayer(nn.Module):
    """Self-attention among the queries, cross-attention to the memory, feed-forward network."""

    heads: int
    feed_forward: int
    dropout: float = 0.0
    pre_norm: bool = False
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch queries channels"],
        query_position: Float[Array, "batch queries channels"],
        memory: Float[Array, "batch tokens channels"],
        position: Float[Array, "batch tokens channels"],
        valid: Bool[Array, "batch tokens"],
        *,
        train: bool,
    ) -> Float[Array, "batch queries channels"]:
        """The queries after this layer; both positions enter queries and keys, never values."""
        norm = {
            name: nn.LayerNorm(epsilon=1e-5, use_fast_variance=False, dtype=self.dtype, name=f"{name}_norm")
            for name in ("self_attention", "cross_attention", "feed_forward")
        }
        self_attention = MultiHeadAttention(self.heads, self.dropout, self.dtype, name="self_attention")
        cross_attention = MultiHeadAttention(self.heads, self.dropout, self.dtype, name="cross_attention")
        feed_forward = FeedForward(self.feed_forward, self.dropout, self.dtype, name="feed_forward")
        drop = nn.Dropout(self.dropout, deterministic=not train)

        def among(y: Array) -> Array:
            located = y + query_position
            return drop(self_attention(located, located, y, train=train))

        def across(y: Array) -> Array:
            return drop(cross_attention(y + query_position, memory + position, memory, valid, train=train))

        def transform(y: Array) -> Array:
            return drop(feed_forward(y, train=train))

        for name, sublayer in (("self_attention", among), ("cross_attention", across), ("feed_forward", transform)):
            x = x + sublayer(norm[name](x)) if self.pre_norm else norm[name](x + sublayer(x))
        return x


class Decoder(nn.Module):
    """A row of decoder layers whose outputs all go through one shared norm."""

    layers: int
    heads: int
    feed_forward: int
    dropout: float = 0.0
    pre_norm: bool = False
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(
        self,
        query_position: Float[Array, "batch queries channels"],
        memory: Float[Array, "batch tokens channels"],
        position: Float[Array, "batch tokens channels"],
        valid: Bool[Array, "batch tokens"],
        *,
        train: bool,
    ) -> Float[Array, "layers batch queries channels"]:
        """The queries after every layer, from zeros on."""
        norm = nn.LayerNorm(epsilon=1e-5, use_fast_variance=False, dtype=self.dtype, name="norm")
        x = jnp.zeros_like(query_position)
        outputs = []
        for i in range(self.layers):
            layer = DecoderLayer(
                self.heads, self.feed_forward, self.dropout, self.pre_norm, self.dtype, name=f"layer_{i}"
            )
            x = layer(x, query_position, memory, position, valid, train=train)
            outputs.append(norm(x))
        return jnp.stack(outputs)
