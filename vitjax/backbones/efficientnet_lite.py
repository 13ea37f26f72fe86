"""EfficientNet-Lite. Source: Tan and Le 2019; tensorflow/tpu, models/official/efficientnet/lite.

The functions at the end are the published sizes; `efficientnet_lite0(norm="batch")` changes a field of one.
"""

import functools
import math
from collections.abc import Iterator
from typing import Any, ClassVar, Literal, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float

from vitjax.errors import FieldError
from vitjax.layers.convolution import convolution
from vitjax.layers.drop_path import DropPath
from vitjax.layers.norms import Norm, normalize
from vitjax.ops.convolution import conv_general_dilated
from vitjax.ops.depthwise import depthwise
from vitjax.ops.images import DEVIATION, MEAN
from vitjax.ops.masks import clear, resize_valid
from vitjax.structs import Feature, Images, Padding

Code = Literal["tensorflow", "torch"]
Rims = Literal["anchored", "centred", "symmetric"]

STEM, HEAD = 32, 1280  # channels, which no size scales


class StageShape(NamedTuple):
    """Blocks of a stage, side of their depthwise kernels, stride of the first, channels, and their widening inside."""

    blocks: int
    kernel: int
    stride: int
    channels: int
    expansion: int


STAGES = (
    StageShape(1, 3, 1, 16, 1),
    StageShape(2, 3, 2, 24, 6),
    StageShape(2, 5, 2, 40, 6),
    StageShape(3, 3, 2, 80, 6),
    StageShape(3, 5, 1, 112, 6),
    StageShape(4, 5, 2, 192, 6),
    StageShape(1, 3, 1, 320, 6),
)
"""Those of Lite0."""
SIZES = {0: (1.0, 1.0), 1: (1.0, 1.1), 2: (1.1, 1.2), 3: (1.2, 1.4), 4: (1.4, 1.8)}
"""Width and depth of the published sizes, as multiples of Lite0's."""

_init = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


def scaled_stages(width: float, depth: float) -> tuple[StageShape, ...]:
    """The stages of a size: channels to the nearest multiple of 8, blocks rounded up; first and last keep their one."""
    last = len(STAGES) - 1
    return tuple(
        stage._replace(
            blocks=stage.blocks if i in (0, last) else math.ceil(stage.blocks * depth),
            channels=_eights(stage.channels * width),
        )
        for i, stage in enumerate(STAGES)
    )


def _eights(channels: float) -> int:
    """The nearest multiple of 8 that is not below nine tenths."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * channels else nearest


def rim(rims: Rims, length: int, kernel: int, stride: int) -> tuple[int, int]:
    """Zeros before and after a side of this length, so that a convolution leaves as many pixels as strides begin.

    'centred' is TensorFlow's SAME, which shares what is missing, and so moves with the length where the stride is 2;
    'anchored' is the same of a length that the stride divides, and begins so for every length; 'symmetric' is torch's.
    """
    missing = max((math.ceil(length / stride) - 1) * stride + kernel - length, 0)
    before = {"centred": missing, "anchored": kernel - stride, "symmetric": kernel - 1}[rims] // 2
    return before, before if rims == "symmetric" else missing - before


class InvertedResidual(nn.Module):
    """A 1x1 convolution that widens, a depthwise one, a 1x1 that narrows without activation; added to a like input."""

    shape: StageShape
    stride: int = 1
    rims: Rims = "anchored"
    norm: Norm = "frozen_batch"
    epsilon: float = 1e-3
    drop_path: float = 0.0
    dtype: str = "float32"

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch h w c"], valid: Bool[Array, "batch h w"], *, train: bool
    ) -> tuple[Array, Array]:
        """The block's output, padding included, and the pixels of it that lie on the image."""
        normalized = functools.partial(normalize, norm=self.norm, train=train, epsilon=self.epsilon)
        pointwise = functools.partial(convolution, kernel=1, kernel_init=_init, dtype=self.dtype)
        shortcut, width, kernel = x, x.shape[-1] * self.shape.expansion, self.shape.kernel
        if self.shape.expansion > 1:
            x = nn.relu6(normalized(pointwise(width, name="expand_conv")(x), valid, "expand_norm"))
        spatial = nn.Conv(
            width,
            (kernel, kernel),
            strides=self.stride,
            padding=[rim(self.rims, length, kernel, self.stride) for length in x.shape[1:3]],
            feature_group_count=width,
            use_bias=False,
            kernel_init=_init,
            conv_general_dilated=depthwise,
            dtype=self.dtype,
            name="depthwise_conv",
        )
        x, valid = spatial(clear(x, valid)), valid[:, :: self.stride, :: self.stride]
        x = nn.relu6(normalized(x, valid, "depthwise_norm"))
        x = normalized(pointwise(self.shape.channels, name="project_conv")(x), valid, "project_norm")
        if self.stride == 1 and shortcut.shape == x.shape:
            x = shortcut + DropPath(self.drop_path)(x, train=train)
        return x, valid


class Stage(nn.Module):
    """A row of blocks, of which the first changes resolution and channels."""

    shape: StageShape
    drop_paths: tuple[float, ...]
    rims: Rims
    norm: Norm
    epsilon: float
    dtype: str

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch h w c"], valid: Bool[Array, "batch h w"], *, train: bool
    ) -> tuple[Array, Array]:
        """The stage's output, padding included, and the pixels of it that lie on the image."""
        for i, drop_path in enumerate(self.drop_paths):
            stride = 1 if i else self.shape.stride
            block = InvertedResidual(
                self.shape, stride, self.rims, self.norm, self.epsilon, drop_path, self.dtype, name=f"block_{i}"
            )
            x, valid = block(x, valid, train=train)
        return x, valid


class EfficientNetLite(nn.Module):
    """Image in, four feature maps out, at strides 4, 8, 16 and 32; the defaults are Lite0.

    The published networks see (pixel - 127) / 128, and images come here with ImageNet's mean and deviation. The
    backbone takes the one to the other itself, before it clears the padding: so its weights are the published ones to
    the bit, and what lies beyond the rim of an image is the published zero. Folded into the first convolution the shift
    of the mean would be wrong along the rim, where zeros stand for another colour.

    Raises:
        FieldError: width or depth is not above 0.
    """

    family: ClassVar[str] = "efficientnet_lite"

    width: float = 1.0
    """Channels as a multiple of Lite0's; stem and head keep theirs."""
    depth: float = 1.0
    """Blocks per stage as a multiple of Lite0's; the first and the last stage keep their one."""
    head: bool = False
    """Widen the last map to 1280 channels by a 1x1 convolution, norm and ReLU6, which classifiers have."""
    code: Code = "tensorflow"
    """Whose code weights are from: 'tensorflow' is as published; 'torch' is timm's own training, `efficientnet_lite0`,
    which pads both sides of a map alike, adds 1e-5 to variances, not 1e-3, and sees ImageNet's mean and deviation."""
    norm: Norm = "frozen_batch"
    """'frozen_batch' for published weights; 'batch' as it is trained for ImageNet; 'group' to train from scratch in
    small batches."""
    drop_path: float = 0.0
    """Probability, in training, that an image goes without a block's branch: rises linearly from 0 at the first block;
    0.2 as published."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """What is computed in; parameters are float32 always."""

    @property
    def title(self) -> str:
        """What people call it."""
        sizes = {size: number for number, size in SIZES.items()}
        number = sizes.get((self.width, self.depth))
        return f"EfficientNet-Lite{f' of width {self.width} and depth {self.depth}' if number is None else number}"

    @property
    def colours(self) -> tuple[Any, Any]:
        """Mean and deviation of the images that its weights are for, as shares of white."""
        return (MEAN, DEVIATION) if self.code == "torch" else (127 / 255, 128 / 255)

    @nn.compact
    def __call__(self, images: Images, *, padding: Padding = "exact", train: bool = False) -> tuple[Feature, ...]:
        """One feature map per stride, finest first; `train` makes a difference to `norm="batch"` and `drop_path` only.

        With `padding="exact"` a padded image gives what it gives alone; convolutions of stride 2 then begin at the
        first pixel as TensorFlow's do where sides are multiples of 32. `"reference"` is the published code for all
        sizes, where padding leaks and TensorFlow's convolutions of odd sides begin a pixel earlier.
        """
        if min(self.width, self.depth) <= 0:
            raise FieldError(f"EfficientNetLite needs width and depth above 0; got {self.width} and {self.depth}.")
        exact = padding == "exact"
        rims: Rims = "symmetric" if self.code == "torch" else "anchored" if exact else "centred"
        valid = images.valid if exact else jnp.ones_like(images.valid)
        x, valid = self._stemmed(self._recoloured(images), valid, rims, train=train)
        features = []
        stages = list(self._stages(rims))
        for i, stage in enumerate(stages):
            x, valid = stage(x, valid, train=train)
            last = i == len(stages) - 1
            if last or (i and stages[i + 1].shape.stride == 2):
                values = self._headed(x, valid, train=train) if last and self.head else x
                features.append(
                    Feature(clear(values, valid), valid if exact else resize_valid(images.valid, *x.shape[1:3]))
                )
        return tuple(features)

    def _recoloured(self, images: Images) -> Array:
        """The images in the published colours, zero where they are not valid."""
        pixels = images.pixels
        if self.code == "tensorflow":
            mean, deviation = self.colours
            pixels = pixels * (DEVIATION / deviation) + (MEAN - mean) / deviation
        return clear(pixels, images.valid).astype(self.dtype)

    def _stages(self, rims: Rims) -> Iterator[Stage]:
        shapes, done = scaled_stages(self.width, self.depth), 0
        blocks = sum(shape.blocks for shape in shapes)
        for i, shape in enumerate(shapes):
            rates = tuple(self.drop_path * (done + j) / blocks for j in range(shape.blocks))
            done += shape.blocks
            yield Stage(shape, rates, rims, self.norm, self._epsilon, self.dtype, name=f"stage_{i + 1}")

    @property
    def _epsilon(self) -> float:
        return 1e-5 if self.code == "torch" else 1e-3

    def _stemmed(self, x: Array, valid: Array, rims: Rims, *, train: bool) -> tuple[Array, Array]:
        """What the first stage sees, and the pixels of it that lie on the image."""
        x = nn.Conv(
            STEM,
            (3, 3),
            strides=2,
            padding=[rim(rims, length, 3, 2) for length in x.shape[1:3]],
            use_bias=False,
            kernel_init=_init,
            conv_general_dilated=conv_general_dilated,
            dtype=self.dtype,
            name="stem_conv",
        )(x)
        valid = valid[:, ::2, ::2]
        x = normalize(x, valid, "stem_norm", norm=self.norm, train=train, epsilon=self._epsilon)
        return nn.relu6(x), valid

    def _headed(self, x: Array, valid: Array, *, train: bool) -> Array:
        x = convolution(HEAD, 1, kernel_init=_init, dtype=self.dtype, name="head_conv")(x)
        return nn.relu6(normalize(x, valid, "head_norm", norm=self.norm, train=train, epsilon=self._epsilon))


def _sized(number: int, changes: dict[str, Any]) -> EfficientNetLite:
    width, depth = SIZES[number]
    return EfficientNetLite(width=width, depth=depth).clone(**changes)


def efficientnet_lite0(**changes: Any) -> EfficientNetLite:
    """EfficientNet-Lite0: 4.65 M parameters as a classifier, published with 75.1 % top-1 on ImageNet at 224 pixels."""
    return _sized(0, changes)


def efficientnet_lite1(**changes: Any) -> EfficientNetLite:
    """EfficientNet-Lite1: 5.42 M parameters as a classifier, published with 76.7 % top-1 on ImageNet at 240 pixels."""
    return _sized(1, changes)


def efficientnet_lite2(**changes: Any) -> EfficientNetLite:
    """EfficientNet-Lite2: 6.09 M parameters as a classifier, published with 77.6 % top-1 on ImageNet at 260 pixels."""
    return _sized(2, changes)


def efficientnet_lite3(**changes: Any) -> EfficientNetLite:
    """EfficientNet-Lite3: 8.20 M parameters as a classifier, published with 79.8 % top-1 on ImageNet at 280 pixels."""
    return _sized(3, changes)


def efficientnet_lite4(**changes: Any) -> EfficientNetLite:
    """EfficientNet-Lite4: 13.0 M parameters as a classifier, published with 81.5 % top-1 on ImageNet at 300 pixels."""
    return _sized(4, changes)
