"""Self-attention of the tokens of windows, with a table of biases by their offset.

Source: Liu et al. 2021 (Swin), section 3.2.
"""

import math
from functools import partial
from typing import ClassVar, Literal, get_args

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float

from vitjax.attention.relative_position import RelativePositionBias
from vitjax.errors import FieldError
from vitjax.layers.linear import Dense
from vitjax.layers.norms import LayerNorm
from vitjax.ops.convolution import wide_einsum
from vitjax.ops.groups import Size
from vitjax.ops.masks import Map, Valid, clear
from vitjax.ops.windows import Windows

Projection = Literal["fused", "separate"]
Mask = Float[Array, "windows tokens tokens"] | Bool[Array, "windows tokens tokens"]


class WindowAttention(nn.Module):
    """softmax(Q K^T / sqrt(d) + B) V per head, with one bias in B for every offset from key to query in the window.

    The weights, `[batch heads tokens tokens]`, are sown as "attention".
    """

    heads: int
    """Number of heads, which share the channels."""
    window: Size = (7, 7)
    """Rows and columns of a window; its tokens follow each other row by row."""
    projection: Projection = "fused"
    """Whether query, key and value are one layer, in this order, as published, or three."""
    starts_at_zero: bool = False
    """Whether the output's kernel starts at zero, for what is to start as the identity."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """What is computed in; scores and softmax are float32 always."""

    def __call__(
        self, x: Float[Array, "batch tokens channels"], mask: Mask | None = None
    ) -> Float[Array, "batch tokens channels"]:
        """Each token's mixture of its window; row i of the batch has the mask i modulo their number.

        A mask is True where a query may attend to a key, or numbers to be added to the scores.
        """
        mixed, weights = self.with_weights(x, mask)
        self.sow("intermediates", "attention", weights)
        return mixed

    @nn.compact
    def with_weights(
        self, x: Float[Array, "batch tokens channels"], mask: Mask | None = None
    ) -> tuple[Float[Array, "batch tokens channels"], Float[Array, "batch heads tokens tokens"]]:
        """What a call gives, and the weights.

        Raises:
            FieldError: the channels cannot be divided among the heads, the tokens are no window, or there is no such
                projection.
        """
        self._check(*x.shape[1:])
        channels = x.shape[-1]
        q, k, v = (part.reshape(*x.shape[:2], self.heads, -1) for part in self._projected(x))
        scores = wide_einsum("bqhd,bkhd->bhqk", q / math.sqrt(q.shape[-1]), k)
        scores = scores + RelativePositionBias(self.heads, self.window, name="position_bias").of_group(self.window)
        weights = jax.nn.softmax(scores if mask is None else _masked(scores, mask), axis=-1)
        mixed = jnp.einsum("bhqk,bkhd->bqhd", weights.astype(v.dtype), v).reshape(x.shape)
        initializer = nn.initializers.zeros if self.starts_at_zero else nn.initializers.normal(0.02)
        return Dense(channels, kernel_init=initializer, dtype=self.dtype, name="output")(mixed), weights

    def _check(self, tokens: int, channels: int) -> None:
        if self.heads < 1:
            raise FieldError(f"attention needs at least one head; got heads={self.heads}.")
        if channels % self.heads:
            raise FieldError(f"attention needs channels divisible by heads={self.heads}; got {channels} channels.")
        if tokens != math.prod(self.window):
            raise FieldError(f"a window of {self.window} has {math.prod(self.window)} tokens; got {tokens}.")
        if self.projection not in get_args(Projection):
            known = " or ".join(get_args(Projection))
            raise FieldError(f"the projection of window attention is {known}; got projection={self.projection!r}.")

    def _projected(self, x: Array) -> list[Array]:
        channels = x.shape[-1]
        dense = partial(Dense, kernel_init=nn.initializers.normal(0.02), dtype=self.dtype)
        if self.projection == "fused":
            return jnp.split(dense(3 * channels, name="qkv")(x), 3, axis=-1)
        return [dense(channels, name=name)(x) for name in ("query", "key", "value")]


def _masked(scores: Array, mask: Array) -> Array:
    """Scores [batch heads queries keys] with one of the masks for each row of the batch, by turns."""
    grouped = scores.reshape(-1, len(mask), *scores.shape[1:])
    wide = mask[:, None]
    lowest = jnp.finfo(scores.dtype).min
    return (jnp.where(wide, grouped, lowest) if mask.dtype == bool else grouped + wide).reshape(scores.shape)


class WindowSelfAttention(nn.Module):
    """x + attention(norm(x)) within the windows of a map; with `shift`, windows begin half a window later.

    The map is rolled by half a window, and what comes from opposite ends does not see each other (Swin's mask). Maps
    are padded to whole windows at the end, and padding is not seen. The mean of the heads' weights, `[batch queries
    keys]` over the pixels of the map, is sown as "attention" when `intermediates` is mutable.

    Unlike Swin's, an image no larger than a window is shifted too, and so cut: where windows begin would else depend on
    the padding, since images of a batch are rolled as one.
    """

    place: ClassVar[str] = "stage"
    starts_as_identity: ClassVar[bool] = True

    heads: int = 4
    """Number of heads, which share the channels."""
    window: int = 7
    """Side of a window in pixels of the map."""
    shift: bool = False
    """Whether windows begin half a window later, so that what plain windows part can meet. Swin has both by turns; a
    ResNet has one module for all of its `attention_stages`, and so the same in each."""
    projection: Projection = "fused"
    """Whether query, key and value are one layer or three."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """What is computed in; parameters, norm, scores and softmax are float32 always."""

    @nn.compact
    def __call__(self, x: Map, valid: Valid | None = None, *, train: bool = False) -> Map:
        """Each pixel with the mixture of its window added to it, zero on padding.

        Raises:
            FieldError: windows have no pixels, or as `WindowAttention` does.
        """
        if self.window < 1:
            raise FieldError(f"windows are at least one pixel wide; got window={self.window}.")
        windows = Windows(x.shape[1], x.shape[2], self.window, self.window // 2 if self.shift else 0)
        y = windows.cut(LayerNorm(name="norm")(x))
        attention = WindowAttention(
            self.heads, (self.window,) * 2, self.projection, starts_at_zero=True, dtype=self.dtype, name="windows"
        )
        mixed, weights = attention.with_weights(y.reshape(-1, *y.shape[2:]), jnp.asarray(windows.seen(valid)))
        if self.is_mutable_collection("intermediates"):
            shared = weights.mean(1).reshape(*y.shape[:3], -1)
            self.sow("intermediates", "attention", windows.pairs(shared))
        out = x + windows.join(mixed.reshape(y.shape)).astype(x.dtype)
        return clear(out, valid)
