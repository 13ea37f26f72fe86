"""Residual attention networks. Source: Wang et al. 2017; tengshaofeng/ResidualAttentionNetwork-pytorch @ 88ed90f.

The functions at the end are the published sizes; `ran_56(norm="frozen_batch")` changes a field of one.
"""

from typing import Any, Literal

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float

from vitjax.attention.residual_attention import (
    Dtype,
    Norm,
    PreactivationBlock,
    ResidualAttention,
    halved,
    normalized,
)
from vitjax.errors import FieldError
from vitjax.layers.convolution import convolution
from vitjax.ops.masks import clear, resize_valid
from vitjax.structs import Feature, Images, Padding

Stem = Literal["imagenet", "cifar", "cifar_pool"]


class ResidualAttentionNetwork(nn.Module):
    """A stem, stages of a block and attention modules, and last blocks without attention: one feature map each.

    All but the last map are sums that no norm and no ReLU has followed yet, as the next block begins with them.

    Raises:
        FieldError: the fields name different numbers of stages.
    """

    attention_modules: tuple[int, ...] = (1, 1, 1)
    """Attention modules per stage; three times 1 is network 56, (1, 2, 3) is network 92."""
    depths: tuple[int, ...] = (3, 2, 1)
    """How often the masks of a stage halve the map; (2, 1, 0) for images of 32 pixels."""
    channels: tuple[int, ...] = (256, 512, 1024, 2048)
    """Channels of each stage and of the last blocks; each divisible by 4."""
    last_blocks: int = 3
    """Blocks after the last stage."""
    last_stride: int = 2
    """Stride of the first of them, 1 for small images; every stage but the first halves the map."""
    stem: Stem = "imagenet"
    """'imagenet': 7x7 and pooling, to a quarter of the size; 'cifar': 3x3 at full size; 'cifar_pool': 5x5 and pooling,
    to half of it."""
    stem_width: int = 64
    """Channels of the stem."""
    norm: Norm = "batch"
    """'batch' as the networks are trained, 'frozen_batch' with fixed statistics."""
    dtype: Dtype = "float32"
    """What is computed in; parameters are float32 always. 'float64' needs JAX's x64 mode."""

    @nn.compact
    def __call__(self, images: Images, *, padding: Padding = "exact", train: bool = False) -> tuple[Feature, ...]:
        """One feature map per stage and one of the last blocks, finest first; `train` counts for `norm="batch"` only.

        With `padding="exact"` a padded image gives what it gives alone; `"reference"` lets padding leak as the
        published code does.
        """
        self._check()
        exact = padding == "exact"
        x, valid = self._stem(images.pixels, images.valid if exact else jnp.ones_like(images.valid), train=train)
        maps = []
        for i, (count, depth) in enumerate(zip(self.attention_modules, self.depths, strict=True)):
            x, valid = self._block(x, valid, i, 2 if i else 1, f"stage_{i + 1}_block", train=train)
            for j in range(count):
                name = f"stage_{i + 1}_attention_{j + 1}"
                x = ResidualAttention(depth, self.norm, self.dtype, name=name)(x, valid, train=train)
            maps.append((x, valid))
        for i in range(self.last_blocks):
            x, valid = self._block(x, valid, -1, 1 if i else self.last_stride, f"last_block_{i + 1}", train=train)
        x = normalized(x, valid, "last_norm", norm=self.norm, train=train)
        return tuple(
            Feature(x, valid if exact else resize_valid(images.valid, *x.shape[1:3]))
            for x, valid in (*maps, (x, valid))
        )

    def _stem(
        self, pixels: Float[Array, "batch h w 3"], valid: Bool[Array, "batch h w"], *, train: bool
    ) -> tuple[Array, Array]:
        kernel, stride = {"imagenet": (7, 2), "cifar": (3, 1), "cifar_pool": (5, 1)}[self.stem]
        x = clear(pixels, valid).astype(self.dtype)
        x = convolution(self.stem_width, kernel, stride, dtype=self.dtype, name="stem_conv")(x)
        valid = valid[:, ::stride, ::stride]
        x = normalized(x, valid, "stem_norm", norm=self.norm, train=train)
        if self.stem == "imagenet":
            return halved(x, valid), valid[:, ::2, ::2]
        if self.stem == "cifar_pool":
            valid = valid[:, 1::2, 1::2]
            return clear(nn.max_pool(x, (2, 2), strides=(2, 2)), valid), valid
        return x, valid

    def _block(self, x: Array, valid: Array, stage: int, stride: int, name: str, *, train: bool) -> tuple[Array, Array]:
        block = PreactivationBlock(self.channels[stage], stride, self.norm, self.dtype, name=name)
        return block(x, valid, train=train), valid[:, ::stride, ::stride]

    def _check(self) -> None:
        stages = len(self.attention_modules)
        if (len(self.depths), len(self.channels)) != (stages, stages + 1):
            raise FieldError(
                f"attention_modules={self.attention_modules} has {stages} stages, which needs as many depths and one "
                f"more of channels; got depths={self.depths}, channels={self.channels}."
            )


def ran_56(**changes: Any) -> ResidualAttentionNetwork:
    """RAN-56 for images of 224 pixels: 31.8 M parameters with a head of 1000 classes."""
    return ResidualAttentionNetwork().clone(**changes)


def ran_92(**changes: Any) -> ResidualAttentionNetwork:
    """RAN-92 for images of 224 pixels: 52.5 M parameters with a head of 1000 classes."""
    return ResidualAttentionNetwork(attention_modules=(1, 2, 3)).clone(**changes)


def ran_92_cifar(**changes: Any) -> ResidualAttentionNetwork:
    """RAN-92 for images of 32 pixels, at full size after the stem (the published `update`): 12.2 M parameters."""
    size: dict[str, Any] = {"depths": (2, 1, 0), "channels": (128, 256, 512, 1024), "last_stride": 1}
    return ran_92(**size, stem="cifar", stem_width=32).clone(**changes)
