"""The last layer of every dense head."""

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from vitjax.attention.linear import linear
from vitjax.ops.masks import Map, Valid, clear


def pixel_classes(
    x: Map, valid: Valid | None, name: str, *, num_classes: int, dropout: float, train: bool, single: bool = False
) -> Float[Array, "batch h w classes"]:
    """Logits of every cell in float32, zero on padding: dropout, and a linear layer called `name`.

    Training drops whole channels, or with `single` single numbers.
    """
    axes = () if single else (1, 2)
    kept = nn.Dropout(dropout, broadcast_dims=axes)(x.astype(jnp.float32), deterministic=not train)
    return clear(linear(num_classes, x.shape[-1], dtype="float32", name=name)(kept), valid)
