"""From attention maps to a mask per query. Source: Carion et al. 2020, section 4.4 and figure 8."""

import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from einops import rearrange
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Float

from vitjax.errors import FieldError
from vitjax.layers.linear import Dense
from vitjax.layers.masked_norms import MaskedGroupNorm
from vitjax.ops.convolution import wide_einsum
from vitjax.ops.convolution_in_parts import convolution_in_parts
from vitjax.ops.masks import Map, Valid, clear, nearest_rows
from vitjax.structs import Feature

# Kaiming uniform with a = 1, U(+-sqrt(3 / fan_in)), which is torch's name for this.
_kernel = nn.initializers.lecun_uniform()


class MaskAttention(nn.Module):
    """softmax(Q K^T / sqrt(d)), jointly over the heads and cells of a map: how much a query looks where, and how.

    The weights are sown into `intermediates` as `attention`.

    Source: reference DETR, `MHAttentionMap`.
    """

    heads: int
    dtype: DTypeLike | None = None
    relative: bool = False
    """Give them as multiples of an even look at all heads and cells; published is the share."""

    @nn.compact
    def __call__(
        self, queries: Float[Array, "batch queries channels"], memory: Map, valid: Valid
    ) -> Float[Array, "batch queries heads h w"]:
        """The weights of all cells, zero on padding; those of a query sum to 1 over all of its heads, or have mean 1.

        Raises:
            FieldError: the channels cannot be divided among the heads.
        """
        channels = queries.shape[-1]
        if channels % self.heads:
            raise FieldError(f"attention needs channels divisible by heads={self.heads}; got {channels} channels.")
        project = functools.partial(Dense, channels, dtype=self.dtype, kernel_init=nn.initializers.xavier_uniform())
        q = rearrange(project(name="query")(queries), "b q (n c) -> b q n c", n=self.heads)
        k = rearrange(project(name="key")(memory), "b h w (n c) -> b h w n c", n=self.heads)
        q = q / math.sqrt(channels // self.heads)
        scores = wide_einsum("bqnc,bhwnc->bqnhw", q, k)
        scores = jnp.where(valid[:, None, None], scores, jnp.finfo(scores.dtype).min)
        weights = jax.nn.softmax(scores, axis=(2, 3, 4))
        self.sow("intermediates", "attention", weights)
        if self.relative:
            return weights * (self.heads * valid.sum((1, 2)))[:, None, None, None, None]
        return weights


class MaskHead(nn.Module):
    """Convolutions on the map of each query, which finer maps of the backbone join on the way up to their resolution.

    Group norms count valid pixels only, and padding is cleared before every convolution. Each query has maps of its
    own: with 100 queries and an image of 800 x 1088 pixels the largest are 0.7 GB in float32.

    Source: reference DETR, `MaskHeadSmallConv`.
    """

    groups: int = 8
    """Groups of the norms."""
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(
        self, x: Map, attention: Float[Array, "batch queries heads h w"], valid: Valid, finer: tuple[Feature, ...]
    ) -> Float[Array, "batch queries height width"]:
        """Logits of every query's mask at the resolution of the last of the `finer` maps, which come coarsest first.

        Raises:
            FieldError: the channels with the heads, or a sixteenth of the channels, do not make up the groups.
        """
        channels, queries = x.shape[-1], attention.shape[1]
        each = functools.partial(jnp.repeat, repeats=queries, axis=0)
        maps = rearrange(attention, "b q n h w -> (b q) h w n").astype(x.dtype)
        y = jnp.concatenate([each(x), maps], axis=-1)
        y = self._block(1, y, each(valid), features=y.shape[-1])
        y = self._block(2, y, each(valid), features=channels // 2)
        for level, feature in enumerate(finer, start=1):
            height, width = feature.values.shape[1:3]
            y = y[:, nearest_rows(y.shape[1], height)][:, :, nearest_rows(y.shape[2], width)]
            y = y + each(self._conv(y.shape[-1], 1, f"adapter_{level}")(feature.values))
            y = self._block(level + 2, y, each(feature.valid), features=channels // 2 ** (level + 1))
            valid = feature.valid
        logits = self._conv(1, 3, "out")(clear(y, each(valid)))
        return rearrange(logits.astype(jnp.float32), "(b q) h w 1 -> b q h w", q=queries)

    def _block(self, number: int, x: Array, valid: Array, *, features: int) -> Array:
        x = self._conv(features, 3, f"conv_{number}")(clear(x, valid))
        return nn.relu(MaskedGroupNorm(self.groups, name=f"norm_{number}")(x, valid))

    def _conv(self, features: int, kernel: int, name: str) -> nn.Conv:
        return nn.Conv(
            features,
            (kernel, kernel),
            padding=[(kernel // 2,) * 2] * 2,
            kernel_init=_kernel,
            conv_general_dilated=convolution_in_parts,
            dtype=self.dtype,
            name=name,
        )
