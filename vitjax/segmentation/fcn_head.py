"""The plain dense head of a fully convolutional network.

Source: Long et al. 2015 (FCN), in the form of torchvision's FCNHead, which is also DANet's auxiliary head.
"""

from typing import Literal

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float

from vitjax.layers.conv_norm import ConvNorm, Norm
from vitjax.layers.linear import linear
from vitjax.ops.masks import clear


class FCNHead(nn.Module):
    """A 3x3 convolution, dropout, and the classes of each cell, which sees no further than its neighbours."""

    channels: int | None = None
    """Width of the convolution; a quarter of the map's channels, and at least 1, if None."""
    norm: Norm = "batch"
    """What normalises after the convolution."""
    dropout: float = 0.1
    """Share of numbers that training drops before the classes."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """What is computed in; parameters, statistics, and the classes are float32 always."""

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch h w channels"],
        valid: Bool[Array, "batch h w"] | None = None,
        *,
        num_classes: int,
        train: bool,
    ) -> tuple[Float[Array, "batch h w classes"], ...]:
        """The logits, alone in a tuple; zero on padding."""
        width = self.channels or max(x.shape[-1] // 4, 1)
        y = ConvNorm(width, self.norm, dtype=self.dtype, name="conv")(x, valid, train=train)
        y = nn.Dropout(self.dropout)(y.astype(jnp.float32), deterministic=not train)
        logits = linear(num_classes, width, dtype="float32", name="classes")(y)
        return (logits if valid is None else clear(logits, valid),)
