"""The plain dense head of a fully convolutional network.

Source: Long et al. 2015 (FCN), in the form of torchvision's FCNHead, which is also DANet's auxiliary head.
"""

from typing import Literal

import flax.linen as nn
from jax import Array
from jaxtyping import Float

from vitjax.layers.conv_norm import ConvNorm
from vitjax.layers.norms import Norm
from vitjax.ops.masks import Map, Valid
from vitjax.segmentation.pixel_classes import pixel_classes


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
        self, x: Map, valid: Valid | None = None, *, num_classes: int, train: bool
    ) -> tuple[Float[Array, "batch h w classes"], ...]:
        """The logits, alone in a tuple; zero on padding."""
        width = self.channels or max(x.shape[-1] // 4, 1)
        y = ConvNorm(width, self.norm, dtype=self.dtype, name="conv")(x, valid, train=train)
        classes = pixel_classes(
            y, valid, "classes", num_classes=num_classes, dropout=self.dropout, single=True, train=train
        )
        return (classes,)
