"""The head of CCNet: recurrent criss-cross attention on a narrow map, joined with the map that came in.

Source: Huang et al. 2019 (CCNet), section 3.1 (reference: speedinghzl/CCNet @ 1fae6c6, `RCCAModule`).
"""

from typing import Literal

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from vitjax.attention.criss_cross import CrissCrossAttention
from vitjax.layers.conv_norm import ConvNorm
from vitjax.layers.norms import Norm
from vitjax.ops.masks import Map, Valid
from vitjax.segmentation.pixel_classes import pixel_classes


class CrissCrossHead(nn.Module):
    """A 3x3 convolution, criss-cross attention, a 3x3 convolution; then [x, that] through a third one to the classes.

    Each convolution is followed by norm and activation as InPlaceABN has them (`ConvNorm`).
    """

    channels: int | None = None
    """Width of the attention; a quarter of the map's channels, and at least 1, if None."""
    hidden: int = 512
    """Width of the convolution before the classes."""
    passes: int = 2
    """How often the attention is applied, with the same weights."""
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
        """The logits, alone in a tuple; zero on padding."""

        def convolve(y: Array, features: int, name: str) -> Array:
            return ConvNorm(features, self.norm, "in_place", self.dtype, name=name)(y, valid, train=train)

        width = self.channels or max(x.shape[-1] // 4, 1)
        y = convolve(x, width, "reduce")
        y = CrissCrossAttention(self.passes, dtype=self.dtype, name="attention")(y, valid, train=train)
        y = convolve(y, width, "gather")
        y = convolve(jnp.concatenate([x.astype(y.dtype), y], axis=-1), self.hidden, "bottleneck")
        return (pixel_classes(y, valid, "classes", num_classes=num_classes, dropout=self.dropout, train=train),)
