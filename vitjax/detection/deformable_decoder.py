"""Deformable DETR's decoder. Source: Zhu et al. 2021, section 4.1, 4.2 and appendix A.4."""

from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import DTypeLike
from jaxtyping import Bool, Float

from vitjax.attention.deformable import DeformableAttention
from vitjax.attention.multi_head import Pairs
from vitjax.detection.deformable_encoder import Memory
from vitjax.detection.transformer import Queries, TransformerLayer, layer_norm
from vitjax.ops.boxes import inverse_sigmoid


class DeformableDecoderLayer(TransformerLayer):
    """Self-attention among the queries, deformable attention to the memory, feed-forward network."""

    levels: int = 4
    points: int = 4

    @nn.compact
    def __call__(
        self,
        x: Queries,
        position: Queries,
        reference: Float[Array, "batch queries levels _"],
        memory: Memory,
        valid: Bool[Array, "batch queries"] | None,
        pairs: Pairs | None,
        train: bool,
    ) -> Queries:
        """The queries after this layer; `position` enters queries and keys, never values."""
        self_attention = self.attention("self_attention")
        cross_attention = DeformableAttention(self.heads, self.levels, self.points, self.dtype, name="cross_attention")

        def among(y: Array) -> Array:
            # Summed twice: their gradients then add up in the order that every run so far has had.
            return self_attention(y + position, y + position, y, valid, pairs, train=train)

        def across(y: Array) -> Array:
            return cross_attention(y + position, reference, memory.tokens, memory.valid, memory.shapes)

        return self.through(x, {"self_attention": among, "cross_attention": across}, train=train)


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
    """The box of a layer, without its gradient, is the reference of the next."""
    look_forward_twice: bool = False
    """A refined box is predicted from the box before with its gradient: its loss trains that one's layer, too."""
    norm: bool = False
    """What is predicted comes from normalised queries, with one norm for all layers; what is handed on does not."""
    epsilon: float = 1e-5
    """How near to 0 and 1 a reference may come."""
    remat: bool = False
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(
        self,
        x: Queries,
        position: Queries | Callable[[Float[Array, "batch queries _"]], Queries],
        reference: Float[Array, "batch queries _"],
        memory: Memory,
        box_heads: Sequence[nn.Module],
        *,
        valid: Bool[Array, "batch queries"] | None = None,
        pairs: Pairs | None = None,
        train: bool,
    ) -> tuple[Float[Array, "layers batch queries channels"], Float[Array, "layers batch queries 4"]]:
        """The queries and the cxcywh boxes after every layer, with one box head for each.

        `reference` is (x, y) or cxcywh in [0, 1] of the unpadded image. A `position` that is a function is made anew
        for every layer, from its references. Queries see the `valid` ones, and of them those that `pairs` lets them.
        """
        layer = nn.remat(DeformableDecoderLayer, static_argnums=7) if self.remat else DeformableDecoderLayer
        sizes = (self.heads, self.feed_forward, self.dropout, False, self.dtype, self.levels, self.points)
        norm = layer_norm("norm", self.dtype) if self.norm else None
        queries: list[Array] = []
        boxes: list[Array] = []
        before = reference  # what a box is predicted from
        for i in range(self.layers):
            padded = reference[:, :, None] * jnp.tile(memory.ratios, reference.shape[-1] // 2)[:, None]
            located = position(reference) if callable(position) else position
            x = layer(*sizes, name=f"layer_{i}")(x, located, padded, memory, valid, pairs, train)
            change = box_heads[i](x.astype(jnp.float32))
            queries.append(x if norm is None else norm(x))
            predicted = change if norm is None else box_heads[i](queries[-1].astype(jnp.float32))
            boxes.append(jax.nn.sigmoid(relative_to(before, predicted, self.epsilon)))
            if self.refine:
                moved = boxes[-1]
                if norm is not None or self.look_forward_twice:
                    # One layer back and no further: what is handed on starts from the reference without its gradient.
                    moved = jax.nn.sigmoid(relative_to(reference, change, self.epsilon))
                reference = lax.stop_gradient(moved)
                before = moved if self.look_forward_twice else reference
            self.sow("intermediates", "references", reference)
        return jnp.stack(queries), jnp.stack(boxes)


def relative_to(
    reference: Float[Array, "batch queries _"], change: Float[Array, "batch queries 4"], epsilon: float = 1e-5
) -> Float[Array, "batch queries 4"]:
    """The logit of a box from its change against a reference point (which moves the centre alone) or box."""
    return change.at[..., : reference.shape[-1]].add(inverse_sigmoid(reference, epsilon))
