"""DETR's transformer: encoder and decoder. Source: Carion et al. 2020, section 3.2 and appendix A.3."""

from collections.abc import Callable, Mapping
from functools import partial

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Bool, Float

from vitjax.attention.multi_head import MultiHeadAttention
from vitjax.layers.feed_forward import FeedForward
from vitjax.layers.linear import Dropout
from vitjax.layers.norms import LayerNorm

Tokens = Float[Array, "batch tokens channels"]
Queries = Float[Array, "batch queries channels"]
Valid = Bool[Array, "batch tokens"]
Sublayers = Mapping[str, Callable[[Array], Array]]


class TransformerLayer(nn.Module):
    """Sublayers and a feed-forward network, each with dropout, residual and norm (after it, or before it)."""

    heads: int
    feed_forward: int
    dropout: float = 0.0
    pre_norm: bool = False
    dtype: DTypeLike | None = None

    def through(self, x: Array, attentions: Sublayers, *, train: bool) -> Array:
        """The tokens after the attentions, by name, and the feed-forward network; for a compact method."""
        feed_forward = FeedForward(self.feed_forward, self.dropout, self.dtype, name="feed_forward")
        drop = partial(Dropout(self.dropout), train=train)
        sublayers: Sublayers = {**attentions, "feed_forward": partial(feed_forward, train=train)}
        for name, sublayer in sublayers.items():
            norm = layer_norm(f"{name}_norm", self.dtype)
            x = x + drop(sublayer(norm(x))) if self.pre_norm else norm(x + drop(sublayer(x)))
        return x

    def attention(self, name: str) -> MultiHeadAttention:
        """Multi-head attention of this name."""
        return MultiHeadAttention(self.heads, self.dropout, self.dtype, name=name)


def layer_norm(name: str, dtype: DTypeLike | None) -> LayerNorm:
    """The norm over channels, as torch has it."""
    return LayerNorm(dtype=dtype, name=name)


class EncoderLayer(TransformerLayer):
    """Self-attention and feed-forward network, each with residual, dropout and norm (after it, or before it)."""

    @nn.compact
    def __call__(self, x: Tokens, position: Tokens, valid: Valid, train: bool) -> Tokens:
        """The tokens after this layer; `position` enters query and key, never the value."""
        attention = self.attention("self_attention")

        def attend(y: Array) -> Array:
            located = y + position
            return attention(located, located, y, valid, train=train)

        return self.through(x, {"self_attention": attend}, train=train)


class DecoderLayer(TransformerLayer):
    """Self-attention among the queries, cross-attention to the memory, feed-forward network."""

    @nn.compact
    def __call__(
        self, x: Queries, query_position: Queries, memory: Tokens, position: Tokens, valid: Valid, train: bool
    ) -> Queries:
        """The queries after this layer; both positions enter queries and keys, never values."""
        self_attention, cross_attention = self.attention("self_attention"), self.attention("cross_attention")

        def among(y: Array) -> Array:
            located = y + query_position
            return self_attention(located, located, y, train=train)

        def across(y: Array) -> Array:
            return cross_attention(y + query_position, memory + position, memory, valid, train=train)

        return self.through(x, {"self_attention": among, "cross_attention": across}, train=train)


class Encoder(nn.Module):
    """A row of encoder layers; a last norm only when the layers normalise first."""

    layers: int
    heads: int
    feed_forward: int
    dropout: float = 0.0
    pre_norm: bool = False
    dtype: DTypeLike | None = None
    remat: bool = False

    @nn.compact
    def __call__(self, x: Tokens, position: Tokens, valid: Valid, *, train: bool) -> Tokens:
        """The memory that the decoder reads."""
        sizes = (self.heads, self.feed_forward, self.dropout, self.pre_norm, self.dtype)
        layer = nn.remat(EncoderLayer, static_argnums=4) if self.remat else EncoderLayer
        for i in range(self.layers):
            x = layer(*sizes, name=f"layer_{i}")(x, position, valid, train)
        return layer_norm("norm", self.dtype)(x) if self.pre_norm else x


class Decoder(nn.Module):
    """A row of decoder layers whose outputs all go through one shared norm."""

    layers: int
    heads: int
    feed_forward: int
    dropout: float = 0.0
    pre_norm: bool = False
    dtype: DTypeLike | None = None
    remat: bool = False

    @nn.compact
    def __call__(
        self, query_position: Queries, memory: Tokens, position: Tokens, valid: Valid, *, train: bool
    ) -> Float[Array, "layers batch queries channels"]:
        """The queries after every layer, from zeros on."""
        sizes = (self.heads, self.feed_forward, self.dropout, self.pre_norm, self.dtype)
        norm = layer_norm("norm", self.dtype)
        x = jnp.zeros_like(query_position)
        outputs = []
        layer = nn.remat(DecoderLayer, static_argnums=6) if self.remat else DecoderLayer
        for i in range(self.layers):
            x = layer(*sizes, name=f"layer_{i}")(x, query_position, memory, position, valid, train)
            outputs.append(norm(x))
        return jnp.stack(outputs)
