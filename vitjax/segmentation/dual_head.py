"""The head of DANet: position attention and channel attention side by side, and their sum.

Source: Fu et al. 2019 (DANet), section 3.4 (reference: junfu1115/DANet @ b0a0fa0, `danet.py`).
"""

from functools import partial
from typing import Literal

import flax.linen as nn
from jax import Array
from jaxtyping import Float

from vitjax.attention.dual import ChannelAttention, PositionAttention
from vitjax.layers.conv_norm import ConvNorm
from vitjax.layers.norms import Norm
from vitjax.ops.masks import Map, Valid
from vitjax.segmentation.pixel_classes import pixel_classes


class DualAttentionHead(nn.Module):
    """Per branch a 3x3 convolution, attention, a 3x3 convolution; classes from the sum of both, and from each alone."""

    channels: int | None = None
    """Width of the branches; a quarter of the map's channels, and at least 1, if None."""
    norm: Norm = "batch"
    """What normalises after each convolution."""
    dropout: float = 0.1
    """Share of whole channels that training drops before the classes."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """What is computed in; parameters, statistics, and the classes are float32 always."""

    @nn.compact
    def __call__(
        self, x: Map, valid: Valid | None = None, *, num_classes: int, train: bool
    ) -> tuple[Float[Array, "batch h w classes"], ...]:
        """Logits of the sum (the answer), of the position branch and of the channel branch; zero on padding."""
        width = self.channels or max(x.shape[-1] // 4, 1)

        def convolve(y: Array, name: str) -> Array:
            return ConvNorm(width, self.norm, dtype=self.dtype, name=name)(y, valid, train=train)

        classify = partial(pixel_classes, valid=valid, num_classes=num_classes, dropout=self.dropout, train=train)
        position = PositionAttention(dtype=self.dtype, name="position_attention")
        channel = ChannelAttention(dtype=self.dtype, name="channel_attention")
        of_position = convolve(position(convolve(x, "position_in"), valid, train=train), "position_out")
        of_channel = convolve(channel(convolve(x, "channel_in"), valid, train=train), "channel_out")
        return (
            classify(of_position + of_channel, name="classes"),
            classify(of_position, name="position_classes"),
            classify(of_channel, name="channel_classes"),
        )
