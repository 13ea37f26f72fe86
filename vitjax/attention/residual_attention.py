"""The parts of a residual attention network: blocks, and modules that weigh what blocks make by a mask.

Source: Wang et al. 2017 (residual attention network for image classification), sections 3 and 3.2;
tengshaofeng/ResidualAttentionNetwork-pytorch @ 88ed90f.
"""

from functools import partial
from typing import ClassVar, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float

from vitjax.layers.convolution import convolution
from vitjax.layers.norms import normalize
from vitjax.ops.masks import Map, Valid, clear
from vitjax.ops.padded_maps import resize_within
from vitjax.ops.pooling import max_pool
from vitjax.ops.resize import resize_bilinear

Norm = Literal["batch", "frozen_batch"]
Dtype = Literal["float32", "bfloat16", "float64"]


def normalized(x: Map, valid: Valid | None, name: str, *, norm: Norm, train: bool) -> Map:
    """`x` after a norm and ReLU, zero on padding."""
    return clear(nn.relu(normalize(x, valid, name, norm=norm, train=train)), valid)


def coarser(valid: Valid | None) -> Bool[Array, "batch height width"] | None:
    """The pixels on the image after a stride of 2."""
    return None if valid is None else valid[:, ::2, ::2]


def halved(x: Map, valid: Valid | None) -> Float[Array, "batch height width channels"]:
    """The largest value around every second pixel, of those on the image; odd sides round up."""
    x = x if valid is None else jnp.where(valid[..., None], x, jnp.finfo(x.dtype).min)
    return clear(max_pool(x), coarser(valid))


class PreactivationBlock(nn.Module):
    """x + W3 r(n3(W2 r(n2(W1 r(n1(x)))))), with kernels 1x1, 3x3, 1x1, norms n, ReLUs r, and a quarter of the width.

    Where stride or width change, the shortcut is W4 r(n1(x)) in place of x. Source: He et al. 2016 (identity mappings).
    """

    channels: int
    stride: int = 1
    norm: Norm = "batch"
    dtype: Dtype = "float32"

    @nn.compact
    def __call__(
        self, x: Map, valid: Valid | None = None, *, train: bool = False
    ) -> Float[Array, "batch height width features"]:
        """The block's output, zero on padding; with stride 2 the pixels on the image are `coarser(valid)`."""
        after = partial(normalized, norm=self.norm, train=train)
        coarse = coarser(valid) if self.stride == 2 else valid
        y = after(x, valid, "norm_1")
        shortcut = x
        if self.stride > 1 or x.shape[-1] != self.channels:
            shortcut = convolution(self.channels, 1, self.stride, dtype=self.dtype, name="shortcut_conv")(y)
        y = convolution(self.channels // 4, 1, dtype=self.dtype, name="conv_1")(y)
        y = after(y, valid, "norm_2")
        y = convolution(self.channels // 4, 3, self.stride, dtype=self.dtype, name="conv_2")(y)
        y = after(y, coarse, "norm_3")
        y = convolution(self.channels, 1, dtype=self.dtype, name="conv_3")(y)
        return clear(y + shortcut.astype(y.dtype), coarse)


class ResidualAttention(nn.Module):
    """B((1 + M(x)) T(x)) of x = B(input): the trunk T is two blocks, the mask M in (0, 1) tells what counts of it.

    M goes `depth` times down by max pooling and up again by bilinear interpolation, with blocks between and a sum with
    what was seen at the same size on the way down; two 1x1 convolutions and a sigmoid end it. The mask,
    `[batch h w channels]`, is sown as "mask". Source: Wang et al. 2017, equation 3 and figure 2; details and initial
    parameters as in the published code.
    """

    place: ClassVar[str] = "stage"
    starts_as_identity: ClassVar[bool] = False

    depth: int = 1
    """How often the mask's branch halves the map; 0 neither shrinks it nor adds the trunk to it."""
    norm: Norm = "batch"
    """'batch' as the networks are trained, 'frozen_batch' with fixed statistics."""
    dtype: Dtype = "float32"
    """What is computed in; parameters are float32 always. 'float64' needs JAX's x64 mode."""

    @nn.compact
    def __call__(self, x: Map, valid: Valid | None = None, *, train: bool = False) -> Map:
        """The attended map, of the size of `x` whatever that is, zero on padding."""
        block = partial(PreactivationBlock, x.shape[-1], norm=self.norm, dtype=self.dtype)
        x = block(name="first")(x, valid, train=train)
        trunk = x
        for i in (1, 2):
            trunk = block(name=f"trunk_{i}")(trunk, valid, train=train)
        mask = self._mask(x, trunk, valid, train=train)
        self.sow("intermediates", "mask", clear(mask, valid))
        return block(name="last")((1 + mask.astype(trunk.dtype)) * trunk, valid, train=train)

    def _mask(self, x: Array, trunk: Array, valid: Array | None, *, train: bool) -> Array:
        block = partial(PreactivationBlock, x.shape[-1], norm=self.norm, dtype=self.dtype)
        seen = [(trunk, valid)]  # what is added at each size on the way up
        for i in range(1, self.depth):
            x, valid = halved(x, valid), coarser(valid)
            x = block(name=f"down_{i}")(x, valid, train=train)
            seen.append((x + block(name=f"skip_{i}")(x, valid, train=train), valid))
        if self.depth:
            x, valid = halved(x, valid), coarser(valid)
        for i in (1, 2):
            x = block(name=f"middle_{i}")(x, valid, train=train)
        for i in reversed(range(self.depth)):
            other, wanted = seen[i]
            x, valid = _resized(x, valid, other, wanted) + other, wanted
            x = block(name=f"up_{i}")(x, valid, train=train) if i else x
        for i in (1, 2):
            x = normalized(x, valid, f"mask_norm_{i}", norm=self.norm, train=train)
            x = convolution(x.shape[-1], 1, dtype=self.dtype, name=f"mask_conv_{i}")(x)
        return jax.nn.sigmoid(x.astype(jnp.promote_types(x.dtype, jnp.float32)))


def _resized(x: Array, valid: Array | None, other: Array, wanted: Array | None) -> Array:
    """`x` at the size of another map, each image from corner to corner."""
    if valid is None or wanted is None:
        return resize_bilinear(x, (other.shape[1], other.shape[2]), align_corners=True)
    return resize_within(x, valid, wanted)
