"""Deformable DETR's encoder. Source: Zhu et al. 2021, section 4.1 and appendix A.4."""

import dataclasses

import flax.linen as nn
import jax.numpy as jnp
from flax import struct
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Float

from vitjax.attention.deformable import DeformableAttention
from vitjax.detection.transformer import Tokens, TransformerLayer, Valid
from vitjax.ops.sampling import Shapes


@struct.dataclass
class Memory:
    """The levels of an image in a row as tokens.

    `valid` tells the tokens on the image, `ratios` are the valid parts (x, y) of the padded maps, and `shapes`, which
    are static, their (height, width).
    """

    tokens: Tokens
    valid: Valid
    ratios: Float[Array, "batch levels 2"]
    shapes: Shapes = struct.field(pytree_node=False)


class DeformableEncoderLayer(TransformerLayer):
    """Deformable self-attention and feed-forward network, each with dropout, residual and norm."""

    levels: int = 4
    points: int = 4

    @nn.compact
    def __call__(
        self, memory: Memory, position: Tokens, reference: Float[Array, "batch tokens levels 2"], train: bool
    ) -> Tokens:
        """The tokens after this layer; `position` enters the query, never the value."""
        attention = DeformableAttention(self.heads, self.levels, self.points, self.dtype, name="self_attention")

        def attend(x: Array) -> Array:
            return attention(x + position, reference, x, memory.valid, memory.shapes)

        return self.through(memory.tokens, {"self_attention": attend}, train=train)


class DeformableEncoder(nn.Module):
    """A row of encoder layers, in which every token is a query with its own place as reference."""

    layers: int
    heads: int
    levels: int
    points: int
    feed_forward: int
    dropout: float = 0.0
    remat: bool = False
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, memory: Memory, position: Tokens, *, train: bool) -> Memory:
        """The memory that the decoder reads."""
        reference = token_places(memory.ratios, memory.shapes)[:, :, None] * memory.ratios[:, None]
        layer = nn.remat(DeformableEncoderLayer, static_argnums=4) if self.remat else DeformableEncoderLayer
        sizes = (self.heads, self.feed_forward, self.dropout, False, self.dtype, self.levels, self.points)
        for i in range(self.layers):
            tokens = layer(*sizes, name=f"layer_{i}")(memory, position, reference, train)
            memory = dataclasses.replace(memory, tokens=tokens)
        return memory


def token_places(ratios: Float[Array, "batch levels 2"], shapes: Shapes) -> Float[Array, "batch tokens 2"]:
    """The centre (x, y) of every token in [0, 1] of the unpadded image; beyond 1 on padding."""
    places = []
    for level, (height, width) in enumerate(shapes):
        y, x = jnp.meshgrid(jnp.arange(height) + 0.5, jnp.arange(width) + 0.5, indexing="ij")
        centres = jnp.stack([x, y], -1).reshape(-1, 2).astype(jnp.float32)
        places.append(centres / (ratios[:, None, level] * jnp.array([width, height], jnp.float32)))
    return jnp.concatenate(places, axis=1)
