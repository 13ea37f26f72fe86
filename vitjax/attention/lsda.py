"""Attention within groups of a map, of near (SDA) or distant (LDA) tokens.

Source: Wang et al. 2022 (CrossFormer), section 3.2.
"""

import math
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from einops import rearrange
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Bool, Float

from vitjax.attention.relative_position import DynamicPositionBias, RelativePositionBias
from vitjax.errors import FieldError
from vitjax.layers.linear import Dense
from vitjax.ops.convolution import wide_einsum
from vitjax.ops.groups import Grid

PositionBias = Literal["dynamic", "table"]


class LongShortDistanceAttention(nn.Module):
    """Self-attention of every group of a map by itself, with a bias by the offset of query and key.

    Whether groups are windows or far-flung is the grid's business, not the parameters'. Scores and softmax are float32.
    The weights, `[batch, groups, heads, queries, keys]`, and the number of every group's tokens on the map, -1 where
    the map was padded, `[groups, tokens]`, are sown into `intermediates` when that collection is mutable.
    """

    heads: int
    position_bias: PositionBias = "dynamic"
    table: int = 7
    """Side of the largest group that a table of biases reaches; the dynamic bias reaches any."""
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch height width channels"],
        grid: Grid,
        valid: Bool[Array, "batch height width"] | None = None,
    ) -> Float[Array, "batch height width channels"]:
        """Each token's mixture of the valid tokens of its group.

        Raises:
            FieldError: the channels cannot be divided among the heads.
        """
        channels = x.shape[-1]
        if channels % self.heads:
            raise FieldError(f"attention needs channels divisible by heads={self.heads}; got {channels} channels.")

        def dense(features: int, name: str) -> nn.Dense:
            return Dense(features, kernel_init=nn.initializers.normal(0.02), dtype=self.dtype, name=name)

        fused = dense(3 * channels, "qkv")(grid.cut(x))
        parts = jnp.split(fused, 3, axis=-1)
        q, k, v = (rearrange(part, "b g n (h d) -> b g h n d", h=self.heads) for part in parts)
        q = q / math.sqrt(channels // self.heads)
        scores = wide_einsum("bghqd,bghkd->bghqk", q, k)
        scores = scores + self._bias(channels).of_group(grid.group)
        keys = grid.keys(valid)
        if keys is not None:
            scores = jnp.where(keys[:, :, None, None], scores, jnp.finfo(scores.dtype).min)
        weights = jax.nn.softmax(scores, axis=-1)
        self._sow_groups(weights, grid)
        mixed = rearrange(jnp.einsum("bghqk,bghkd->bghqd", weights.astype(v.dtype), v), "b g h n d -> b g n (h d)")
        return dense(channels, "out")(grid.join(mixed))

    def _sow_groups(self, weights: Array, grid: Grid) -> None:
        if self.is_mutable_collection("intermediates"):
            numbers = jnp.arange(1, grid.height * grid.width + 1, dtype=jnp.float32)
            tokens = grid.cut(numbers.reshape(1, grid.height, grid.width, 1))[0, ..., 0].astype(jnp.int32) - 1
            self.sow("intermediates", "weights", weights)
            self.sow("intermediates", "tokens", tokens)

    def _bias(self, channels: int) -> DynamicPositionBias | RelativePositionBias:
        if self.position_bias == "table":
            return RelativePositionBias(self.heads, self.table, name="position_bias")
        return DynamicPositionBias(self.heads, max(channels // 16, 1), name="position_bias")
