"""Learned position embeddings."""

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float

from vitjax.errors import FieldError


class LearnedPosition(nn.Module):
    """One learned vector per row and per column, (column, row) concatenated. Source: DETR's learned variant.

    Raises:
        FieldError: a map has more rows or columns than `length`.
    """

    channels: int
    length: int = 50

    @nn.compact
    def __call__(self, valid: Bool[Array, "batch height width"]) -> Float[Array, "batch height width channels"]:
        """The embedding of every cell, the same for all images."""
        batch, height, width = valid.shape
        if max(height, width) > self.length:
            raise FieldError(
                f"learned positions reach {self.length} rows and columns; the feature map has {height} x {width}. "
                "Use smaller images, a coarser backbone or position='sine'."
            )
        shape = (self.length, self.channels // 2)
        row = self.param("row", nn.initializers.uniform(1.0), shape)[:height, None]
        column = self.param("column", nn.initializers.uniform(1.0), shape)[None, :width]
        halves = [jnp.broadcast_to(half, (batch, height, width, shape[1])) for half in (column, row)]
        return jnp.concatenate(halves, axis=-1)
