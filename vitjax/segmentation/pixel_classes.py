"""The last layer of every dense head."""

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float

from vitjax.layers.linear import linear
from vitjax.ops.masks import clear


def pixel_classes(
    x: Float[Array, "batch h w channels"],
    valid: Bool[Array, "batch h w"] | None,
    name: str,
    *,
    num_classes: int,
    dropout: float,
    whole_channels: bool,
    train: bool,
) -> Float[Array, "batch h w classes"]:
    """Logits of every cell in float32, zero on padding: dropout, and a linear layer called `name`.

    With `whole_channels` training drops channels, else single numbers.
    """
    axes = (1, 2) if whole_channels else ()
    kept = nn.Dropout(dropout, broadcast_dims=axes)(x.astype(jnp.float32), deterministic=not train)
    return clear(linear(num_classes, x.shape[-1], dtype="float32", name=name)(kept), valid)
