"""Residual networks. Source: He et al. 2016, in version 1.5 (the stride sits on the 3x3 convolution)."""

import functools
from typing import Any, ClassVar, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Bool, Float

from vitjax.errors import FieldError
from vitjax.layers.convolution import convolution
from vitjax.layers.norms import Norm, normalize
from vitjax.ops.masks import clear, resize_valid
from vitjax.structs import Feature, Images, Padding

BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
SMALL_BLOCKS = {20: (3, 3, 3), 32: (5, 5, 5), 56: (9, 9, 9)}

_conv = functools.partial(convolution, kernel_init=nn.initializers.variance_scaling(2.0, "fan_out", "normal"))


def _relu(x: Array, valid: Array) -> Array:
    """Activation that leaves nothing on padding: a bias of the norm would otherwise leak into the image."""
    return clear(nn.relu(x), valid)


@jax.custom_jvp
def _sum_relu(x: Array, shortcut: Array, valid: Array) -> Array:
    """`_relu(x + shortcut, valid)`, on CPUs bit for bit the same with the sum as the last operation.

    For each of a block's two readers, the next convolution and the next sum, XLA for CPUs computes cheap operations
    anew: with the ReLU last the ends of all earlier blocks of a stage. A sum of two maps is not cheap to it.
    """

    def sum_last(x: Array, shortcut: Array, valid: Array) -> Array:
        return jnp.where(valid[..., None] & ~(x <= -shortcut), x, -shortcut) + shortcut

    return lax.platform_dependent(x, shortcut, valid, cpu=sum_last, default=lambda x, y, valid: _relu(x + y, valid))


@_sum_relu.defjvp
def _sum_relu_jvp(primals: Any, tangents: Any) -> tuple[Array, Array]:
    result = _sum_relu(*primals)
    return result, jnp.where(result > 0, tangents[0] + tangents[1], 0)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions (basic) or 1x1, 3x3, 1x1 (bottleneck), attention if there is any, added to a shortcut."""

    width: int
    bottleneck: bool
    stride: int = 1
    dilation: int = 1
    norm: Norm = "frozen_batch"
    attention: nn.Module | None = None
    dtype: str = "float32"

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch h w c"], valid: Bool[Array, "batch h w"], *, train: bool
    ) -> tuple[Array, Array]:
        """The block's output and the pixels of it that lie on the image."""
        normalized = functools.partial(normalize, norm=self.norm, train=train)
        kernels = (1, 3, 1) if self.bottleneck else (3, 3)
        features = 4 * self.width if self.bottleneck else self.width
        coarse = valid[:, :: self.stride, :: self.stride]
        shortcut = x
        if self.stride > 1 or x.shape[-1] != features:
            shortcut = _conv(features, 1, self.stride, dtype=self.dtype, name="shortcut_conv")(x)
            shortcut = normalized(shortcut, coarse, "shortcut_norm")
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
            x = normalized(conv(x), valid, f"norm_{i + 1}")
            x = x if last else _relu(x, valid)
        if self.attention is not None:
            x = self.attention(x, coarse, train=train)
        return _sum_relu(x, shortcut, coarse), coarse


class Stage(nn.Module):
    """A row of residual blocks; the first changes the resolution, or keeps it and dilates the others (DC5).

    Attention stands in every block or after the last one, as its `place` says.
    """

    blocks: int
    width: int
    bottleneck: bool
    stride: int
    dilation: int
    norm: Norm
    attention: nn.Module | None
    dtype: str

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch h w c"], valid: Bool[Array, "batch h w"], *, train: bool
    ) -> tuple[Array, Array]:
        """The stage's output and the pixels of it that lie on the image."""
        attention = self.attention
        in_blocks = attention is not None and attention.place == "branch"
        for i in range(self.blocks):
            stride, dilation = (self.stride, 1) if i == 0 else (1, self.dilation)
            block = ResidualBlock(
                self.width,
                self.bottleneck,
                stride,
                dilation,
                self.norm,
                attention.clone() if attention is not None and in_blocks else None,  # one with parameters of its own
                self.dtype,
                name=f"block_{i}",
            )
            x, valid = block(x, valid, train=train)
        if attention is not None and not in_blocks:
            x = attention(x, valid, train=train)
        return x, valid


class ResNet(nn.Module):
    """ResNet-18, 34, 50 or 101: image in, one feature map per stage out, at strides 4, 8, 16 and 32.

    With the small stem ResNet-20, 32 or 56 as made for CIFAR: three stages at strides 1, 2 and 4. Any attention that is
    called as `attention(x, valid, train=train)` and keeps the shape can be put into any of them.

    Raises:
        FieldError: there is no such depth, or no such stage for attention.
    """

    family: ClassVar[str] = "resnet"

    depth: int = 50
    """Number of layers: 18, 34 (basic blocks), 50 or 101 (bottlenecks); with the small stem 20, 32 or 56 (basic)."""
    stem: Literal["large", "small"] = "large"
    """'large': a 7x7 convolution and a max-pool, stride 4; 'small': a 3x3 convolution, stride 1 (He et al., section
    4.2), which goes with width 16."""
    dilation: bool = False
    """Keep stride 16 in the last stage and dilate its convolutions instead (DC5); its first block is not dilated."""
    width: int = 64
    """Channels of the stem and of the first stage's 3x3 convolutions; every further stage doubles them."""
    stage_blocks: tuple[int, ...] | None = None
    """Blocks per stage in place of the depth's own; fewer than four entries make a net of fewer stages."""
    norm: Norm = "frozen_batch"
    """'frozen_batch' for published weights; 'batch' as ResNets are trained for ImageNet; 'group' to train from scratch
    in small batches."""
    # A module or None; of a declared union train.py would not show the fields of the module that is given.
    attention: Any = None
    """A module of `vitjax.attention` for some of the stages, such as SqueezeExcitation(); each has parameters of its
    own."""
    attention_stages: tuple[int, ...] = (3, 4)
    """The stages that have it, counted from 1."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """What is computed in; parameters are float32 always."""

    @property
    def title(self) -> str:
        """What people call it."""
        attention = f" with {type(self.attention).__name__}" if self.attention else ""
        return f"ResNet-{self.depth}{'-DC5' if self.dilation else ''}{attention}"

    @nn.compact
    def __call__(self, images: Images, *, padding: Padding = "exact", train: bool = False) -> tuple[Feature, ...]:
        """One feature map per stage, finest first; `train` makes a difference to `norm="batch"` only.

        With `padding="exact"` a padded image gives what it gives alone; `"reference"` lets padding leak as the
        published code does.
        """
        blocks = self._stage_blocks()
        exact = padding == "exact"
        valid = images.valid if exact else jnp.ones_like(images.valid)
        x = clear(images.pixels, valid).astype(self.dtype)
        x, valid = self._stemmed(x, valid, train=train)
        features = []
        for i, count in enumerate(blocks):
            dilate = self.dilation and i == len(blocks) - 1
            stage = Stage(
                blocks=count,
                width=self.width * 2**i,
                bottleneck=self.stem == "large" and self.depth >= 50,
                stride=1 if i == 0 or dilate else 2,
                dilation=2 if dilate else 1,
                norm=self.norm,
                attention=self.attention.clone() if self.attention and i + 1 in self.attention_stages else None,
                dtype=self.dtype,
                name=f"stage_{i + 1}",
            )
            x, valid = stage(x, valid, train=train)
            features.append(Feature(x, valid if exact else resize_valid(images.valid, *x.shape[1:3])))
        return tuple(features)

    def _stage_blocks(self) -> tuple[int, ...]:
        depths = BLOCKS if self.stem == "large" else SMALL_BLOCKS
        if self.depth not in depths:
            known = ", ".join(map(str, depths))
            raise FieldError(f"ResNet with a {self.stem} stem has depths {known}; got depth={self.depth}.")
        blocks = self.stage_blocks or depths[self.depth]
        self._check_attention(len(blocks))
        return blocks

    def _check_attention(self, stages: int) -> None:
        asked = self.attention_stages
        if self.attention is None:
            if asked not in ((), ResNet.attention_stages):
                raise FieldError(f"attention_stages says where attention stands, and there is none; got {asked}.")
        elif not hasattr(self.attention, "place"):
            raise FieldError(
                "what stands in a ResNet is a module of vitjax.attention with a `place`, such as SqueezeExcitation or "
                f"NonLocal; got {type(self.attention).__name__}."
            )
        elif set(asked) - set(range(1, stages + 1)):
            raise FieldError(f"attention_stages are stages of the ResNet, 1 to {stages}; got {asked}.")

    def _stemmed(self, x: Array, valid: Array, *, train: bool) -> tuple[Array, Array]:
        """What the first stage sees, and the pixels of it that lie on the image."""
        large = self.stem == "large"
        x = _conv(self.width, 7 if large else 3, 2 if large else 1, dtype=self.dtype, name="stem_conv")(x)
        valid = valid[:, ::2, ::2] if large else valid
        x = _relu(normalize(x, valid, "stem_norm", norm=self.norm, train=train), valid)
        if large:
            from vitjax.ops.pooling import max_pool

            x = max_pool(x)
            valid = valid[:, ::2, ::2]
            x = clear(x, valid)  # a window beyond the rim may reach back into the image
        return x, valid
