"""DETR's transformer encoder. Source: Carion et al. 2020, section 3.2 and appendix A.3."""

import flax.linen as nn
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Bool, Float

from vitjax.attention.multi_head import MultiHeadAttention
from vitjax.layers.feed_forward import FeedForward


class EncoderLayer(nn.Module):
    """Self-attention and feed-forward network, each with residual, dropout and norm (after it, or before it)."""

    heads: int
    feed_forward: int
    dropout: float = 0.0
    pre_norm: bool = False
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch tokens channels"],
        position: Float[Array, "batch tokens channels"],
        valid: Bool[Array, "batch tokens"],
        *,
        train: bool,
    ) -> Float[Array, "batch tokens channels"]:
        """The tokens after this layer; `position` enters query and key, never the value."""
        norm = {
            name: nn.LayerNorm(epsilon=1e-5, use_fast_variance=False, dtype=self.dtype, name=f"{name}_norm")
            for name in ("self_attention", "feed_forward")
        }
        attention = MultiHeadAttention(self.heads, self.dropout, self.dtype, name="self_attention")
        feed_forward = FeedForward(self.feed_forward, self.dropout, self.dtype, name="feed_forward")
        drop = nn.Dropout(self.dropout, deterministic=not train)

        def attend(y: Array) -> Array:
            located = y + position
            return drop(attention(located, located, y, valid, train=train))

        if self.pre_norm:
            x = x + attend(norm["self_attention"](x))
            return x + drop(feed_forward(norm["feed_forward"](x), train=train))
        x = norm["self_attention"](x + attend(x))
        return norm["feed_forward"](x + drop(feed_forward(x, train=train)))


class Encoder(nn.Module):
    """A row of encoder layers; a last norm only when the layers normalise first."""

    layers: int
    heads: int
    feed_forward: int
    dropout: float = 0.0
    pre_norm: bool = False
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch tokens channels"],
        position: Float[Array, "batch tokens channels"],
        valid: Bool[Array, "batch tokens"],
        *,
        train: bool,
    ) -> Float[Array, "batch tokens channels"]:
        """The memory that the decoder reads."""
        for i in range(self.layers):
            layer = EncoderLayer(
                self.heads, self.feed_forward, self.dropout, self.pre_norm, self.dtype, name=f"layer_{i}"
            )
            x = layer(x, position, valid, train=train)
        if self.pre_norm:
            x = nn.LayerNorm(epsilon=1e-5, use_fast_variance=False, dtype=self.dtype, name="norm")(x)
        return x
