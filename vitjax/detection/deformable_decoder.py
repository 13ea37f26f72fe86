"""Deformable DETR's decoder. Source: Zhu et al. 2021, section 4.1, 4.2 and appendix A.4."""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import DTypeLike
from jaxtyping import Bool, Float

from vitjax.attention.deformable import DeformableAttention
from vitjax.attention.multi_head import MultiHeadAttention
from vitjax.layers.feed_forward import FeedForward
from vitjax.ops.boxes import inverse_sigmoid
from vitjax.ops.sampling import Shapes


class DeformableDecoderLayer(nn.Module):
    """Self-attention among the queries, deformable attention to the memory, feed-forward network; norms after each."""

    heads: int
    levels: int
    points: int
    feed_forward: int
    dropout: float = 0.0
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch queries channels"],
        position: Float[Array, "batch queries channels"],
        reference: Float[Array, "batch queries levels _"],
        memory: Float[Array, "batch tokens channels"],
        valid: Bool[Array, "batch tokens"],
        queries_valid: Bool[Array, "batch queries"] | None,
        shapes: Shapes,
        train: bool,
    ) -> Float[Array, "batch queries channels"]:
        """The queries after this layer; `position` enters queries and keys, never values."""

        def norm(name: str) -> nn.LayerNorm:
            return nn.LayerNorm(epsilon=1e-5, use_fast_variance=False, dtype=self.dtype, name=f"{name}_norm")

        drop = nn.Dropout(self.dropout, deterministic=not train)
        self_attention = MultiHeadAttention(self.heads, self.dropout, self.dtype, name="self_attention")
        x = norm("self_attention")(x + drop(self_attention(x + position, x + position, x, queries_valid, train=train)))
        cross_attention = DeformableAttention(self.heads, self.levels, self.points, self.dtype, name="cross_attention")
        x = norm("cross_attention")(x + drop(cross_attention(x + position, reference, memory, valid, shapes)))
        feed_forward = FeedForward(self.feed_forward, self.dropout, self.dtype, name="feed_forward")
        return norm("feed_forward")(x + drop(feed_forward(x, train=train)))


class DeformableDecoder(nn.Module):
    """A row of decoder layers; each predicts a box relative to its reference, which may refine that reference.

    `references` after every layer are sown into `intermediates`.
    """

    layers: int
    heads: int
    levels: int
    points: int
    feed_forward: int
    dropout: float = 0.0
    refine: bool = False
    remat: bool = False
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch queries channels"],
        position: Float[Array, "batch queries channels"],
        reference: Float[Array, "batch queries _"],
        memory: Float[Array, "batch tokens channels"],
        valid: Bool[Array, "batch tokens"],
        queries_valid: Bool[Array, "batch queries"] | None,
        ratios: Float[Array, "batch levels 2"],
        shapes: Shapes,
        box_heads: Sequence[nn.Module],
        *,
        train: bool,
    ) -> tuple[Float[Array, "layers batch queries channels"], Float[Array, "layers batch queries 4"]]:
        """The queries and the cxcywh boxes after every layer, with one box head for each.

        `reference` is (x, y) or cxcywh in [0, 1] of the unpadded image. With `refine` the box of a layer, without its
        gradient, is the reference of the next.
        """
        layer = nn.remat(DeformableDecoderLayer, static_argnums=(7, 8)) if self.remat else DeformableDecoderLayer
        sizes = (self.heads, self.levels, self.points, self.feed_forward, self.dropout, self.dtype)
        queries: list[Array] = []
        boxes: list[Array] = []
        for i in range(self.layers):
            padded = reference[:, :, None] * jnp.tile(ratios, reference.shape[-1] // 2)[:, None]
            x = layer(*sizes, name=f"layer_{i}")(x, position, padded, memory, valid, queries_valid, shapes, train)
            box = jax.nn.sigmoid(relative_to(reference, box_heads[i](x.astype(jnp.float32))))
            queries.append(x)
            boxes.append(box)
            reference = lax.stop_gradient(box) if self.refine else reference
            self.sow("intermediates", "references", reference)
        return jnp.stack(queries), jnp.stack(boxes)


def relative_to(
    reference: Float[Array, "batch queries _"], change: Float[Array, "batch queries 4"]
) -> Float[Array, "batch queries 4"]:
    """The logit of a box from its change against a reference point (which moves the centre alone) or box."""
    return change.at[..., : reference.shape[-1]].add(inverse_sigmoid(reference))
