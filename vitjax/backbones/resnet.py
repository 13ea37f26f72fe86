"""Residual networks. Source: He et al. 2016, in version 1.5 (the stride sits on the 3x3 convolution)."""

import functools
import math
from typing import Literal

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float

from vitjax.layers.norms import FrozenBatchNorm, MaskedBatchNorm, MaskedGroupNorm
from vitjax.ops.convolution import conv_general_dilated
from vitjax.ops.masks import clear, resize_valid
from vitjax.structs import Feature, Images, Padding

Norm = Literal["frozen_batch", "batch", "group"]

BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}


def _conv(features: int, kernel: int, stride: int = 1, dilation: int = 1, *, dtype: str, name: str) -> nn.Conv:
    """A convolution without bias, padded on every side as torch does it (XLA's SAME shifts strided features)."""
    return nn.Conv(
        features,
        (kernel, kernel),
        strides=stride,
        padding=[(dilation * (kernel // 2),) * 2] * 2,
        kernel_dilation=dilation,
        use_bias=False,
        kernel_init=nn.initializers.variance_scaling(2.0, "fan_out", "normal"),
        conv_general_dilated=conv_general_dilated,
        dtype=dtype,
        name=name,
    )


def _normalize(x: Array, valid: Array, name: str, *, norm: Norm, train: bool) -> Array:
    if norm == "frozen_batch":
        return FrozenBatchNorm(name=name)(x)
    if norm == "batch":
        return MaskedBatchNorm(name=name)(x, valid, train=train)
    return MaskedGroupNorm(math.gcd(32, x.shape[-1]), name=name)(x, valid)


def _relu(x: Array, valid: Array) -> Array:
    """Activation that leaves nothing on padding: a bias of the norm would otherwise leak into the image."""
    return clear(nn.relu(x), valid)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions (basic) or 1x1, 3x3, 1x1 (bottleneck), added to a shortcut."""

    width: int
    bottleneck: bool
    stride: int = 1
    dilation: int = 1
    norm: Norm = "frozen_batch"
    dtype: str = "float32"

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch h w c"], valid: Bool[Array, "batch h w"], *, train: bool
    ) -> tuple[Array, Array]:
        """The block's output and the pixels of it that lie on the image."""
        normalize = functools.partial(_normalize, norm=self.norm, train=train)
        kernels = (1, 3, 1) if self.bottleneck else (3, 3)
        features = 4 * self.width if self.bottleneck else self.width
        coarse = valid[:, :: self.stride, :: self.stride]
        shortcut = x
        if self.stride > 1 or x.shape[-1] != features:
            shortcut = _conv(features, 1, self.stride, dtype=self.dtype, name="shortcut_conv")(x)
            shortcut = normalize(shortcut, coarse, "shortcut_norm")
        strided = kernels.index(3)
        for i, kernel in enumerate(kernels):
            last = i == len(kernels) - 1
            stride = self.stride if i == strided else 1
            conv = _conv(
                features if last else self.width,
                kernel,
                stride,
                self.dilation if kernel == 3 else 1,
                dtype=self.dtype,
                name=f"conv_{i + 1}",
            )
            valid = coarse if i >= strided else valid
            x = normalize(conv(x), valid, f"norm_{i + 1}")
            x = x if last else _relu(x, valid)
        return _relu(x + shortcut, coarse), coarse


class Stage(nn.Module):
    """A row of residual blocks; the first changes the resolution, or keeps it and dilates the others (DC5)."""

    blocks: int
    width: int
    bottleneck: bool
    stride: int
    dilation: int
    norm: Norm
    dtype: str

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch h w c"], valid: Bool[Array, "batch h w"], *, train: bool
    ) -> tuple[Array, Array]:
        """The stage's output and the pixels of it that lie on the image."""
        for i in range(self.blocks):
            stride, dilation = (self.stride, 1) if i == 0 else (1, self.dilation)
            block = ResidualBlock(
                self.width, self.bottleneck, stride, dilation, self.norm, self.dtype, name=f"block_{i}"
            )
            x, valid = block(x, valid, train=train)
        return x, valid


class ResNet(nn.Module):
    """ResNet-18, 34, 50 or 101: image in, one feature map per stage out, at strides 4, 8, 16 and 32.

    Raises:
        ValueError: the depth is not one of the four.
    """

    depth: int = 50
    """Number of layers: 18, 34 (basic blocks), 50 or 101 (bottlenecks)."""
    dilation: bool = False
    """Keep stride 16 in the last stage and dilate its convolutions instead (DC5); its first block is not dilated."""
    width: int = 64
    """Channels of the stem and of the first stage's 3x3 convolutions; every further stage doubles them."""
    stage_blocks: tuple[int, ...] | None = None
    """Blocks per stage in place of the depth's own; fewer than four entries make a net of fewer stages."""
    norm: Norm = "frozen_batch"
    """'frozen_batch' for published weights; 'batch' as ResNets are trained for ImageNet; 'group' to train from scratch
    in small batches."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """What is computed in; parameters are float32 always."""

    @nn.compact
    def __call__(self, images: Images, *, padding: Padding = "exact", train: bool = False) -> tuple[Feature, ...]:
        """One feature map per stage, finest first; `train` makes a difference to `norm="batch"` only.

        With `padding="exact"` a padded image gives what it gives alone; `"reference"` lets padding leak as the
        published code does.
        """
        if self.depth not in BLOCKS:
            raise ValueError(f"ResNet has depths {', '.join(map(str, BLOCKS))}; got depth={self.depth}.")
        blocks = self.stage_blocks or BLOCKS[self.depth]
        exact = padding == "exact"
        valid = images.valid if exact else jnp.ones_like(images.valid)
        x = clear(images.pixels, valid).astype(self.dtype)
        x = _conv(self.width, 7, 2, dtype=self.dtype, name="stem_conv")(x)
        valid = valid[:, ::2, ::2]
        x = _relu(_normalize(x, valid, "stem_norm", norm=self.norm, train=train), valid)
        x = nn.max_pool(x, (3, 3), strides=(2, 2), padding=[(1, 1), (1, 1)])
        valid = valid[:, ::2, ::2]
        x = clear(x, valid)  # a window beyond the rim may reach back into the image
        features = []
        for i, count in enumerate(blocks):
            dilate = self.dilation and i == len(blocks) - 1
            stage = Stage(
                blocks=count,
                width=self.width * 2**i,
                bottleneck=self.depth >= 50,
                stride=1 if i == 0 or dilate else 2,
                dilation=2 if dilate else 1,
                norm=self.norm,
                dtype=self.dtype,
                name=f"stage_{i + 1}",
            )
            x, valid = stage(x, valid, train=train)
            features.append(Feature(x, valid if exact else resize_valid(images.valid, *x.shape[1:3])))
        return tuple(features)
