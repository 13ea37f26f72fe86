"""CrossFormer and CrossFormer++. Source: Wang et al. 2022 and 2023; cheerss/CrossFormer @ 7952010.

The functions at the end are the published sizes; `crossformer_small(drop_path=0.1)` changes a field of one.
"""

import itertools
from typing import Any, ClassVar, Literal

import flax.linen as nn
import numpy as np
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Bool, Float

from vitjax.attention.lsda import LongShortDistanceAttention, PositionBias
from vitjax.errors import FieldError
from vitjax.layers.cross_scale_embedding import CrossScaleEmbedding
from vitjax.layers.drop_path import DropPath
from vitjax.layers.gelu_feed_forward import GeluFeedForward
from vitjax.layers.norms import LayerNorm
from vitjax.ops.groups import Grouping
from vitjax.ops.initializers import torch_bias, torch_kernel
from vitjax.ops.masks import clear, resize_valid
from vitjax.structs import Feature, Images, Padding

Map = Float[Array, "batch height width channels"]
Valid = Bool[Array, "batch height width"]

STRIDE = 4  # of the first stage's tokens; every further stage halves the resolution


def _norm(dtype: DTypeLike | None, name: str) -> LayerNorm:
    return LayerNorm(dtype=dtype, name=name)


def drop_paths(depths: tuple[int, ...], last: float) -> tuple[tuple[float, ...], ...]:
    """The rate of every block, by stage: a straight line from 0 at the first block of all to `last` at the last."""
    rates = iter(np.linspace(0, last, sum(depths)).tolist())
    return tuple(tuple(itertools.islice(rates, depth)) for depth in depths)


class CrossFormerBlock(nn.Module):
    """Attention in groups and a feed-forward network, each after a norm and added to its input.

    A cooling layer, a depthwise convolution and a norm, replaces the sum by something smaller (CrossFormer++).
    """

    heads: int
    group_size: int
    interval: int
    long: bool
    expansion: float = 4.0
    drop_path: float = 0.0
    cooling: bool = False
    position_bias: PositionBias = "dynamic"
    grouping: Grouping = Grouping()
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: Map, valid: Valid | None = None, train: bool = False) -> Map:
        """The map after this block; with `valid` no token sees padding, and small maps are cut as large ones are."""
        height, width, channels = x.shape[1:]
        exact = valid is not None
        grid = self.grouping.grid(height, width, self.group_size, self.interval, long=self.long, exact=exact)
        attention = LongShortDistanceAttention(
            self.heads, self.position_bias, self.group_size, self.dtype, name="attention"
        )
        feed_forward = GeluFeedForward(int(self.expansion * channels), self.dtype, name="feed_forward")
        drop = DropPath(self.drop_path)
        x = x + drop(attention(_norm(self.dtype, "attention_norm")(x), grid, valid), train=train)
        x = x + drop(feed_forward(_norm(self.dtype, "feed_forward_norm")(x)), train=train)
        return self._cool(x, valid) if self.cooling else x

    def _cool(self, x: Map, valid: Valid | None) -> Map:
        channels = x.shape[-1]
        convolution = nn.Conv(
            channels,
            (3, 3),
            padding=1,
            feature_group_count=channels,
            kernel_init=torch_kernel,
            bias_init=torch_bias(9),
            dtype=self.dtype,
            name="cooling_conv",
        )
        return _norm(self.dtype, "cooling_norm")(convolution(clear(x, valid)))


class CrossFormerStage(nn.Module):
    """A cross-scale embedding, then blocks of short and long distance attention by turns."""

    embedding: CrossScaleEmbedding
    heads: int
    group_size: int
    interval: int
    drop_paths: tuple[float, ...]
    cooling: bool
    expansion: float
    position_bias: PositionBias
    grouping: Grouping
    dtype: DTypeLike | None
    remat: bool = False

    @nn.compact
    def __call__(
        self, x: Map, valid: Valid | None, *, train: bool
    ) -> tuple[Float[Array, "batch rows columns features"], Bool[Array, "batch rows columns"] | None]:
        """The stage's map, and the tokens of it that lie on the image if `valid` tells the pixels or tokens before."""
        x = self.embedding(x, valid)
        if valid is not None:
            valid = valid[:, :: self.embedding.stride, :: self.embedding.stride]
        depth = len(self.drop_paths)
        kind = nn.remat(CrossFormerBlock, static_argnums=3) if self.remat else CrossFormerBlock
        for i, drop_path in enumerate(self.drop_paths):
            block = kind(
                self.heads,
                self.group_size,
                self.interval,
                long=i % 2 == 1,
                expansion=self.expansion,
                drop_path=drop_path,
                cooling=self.cooling and i % 3 == 2 and i < depth - 1,
                position_bias=self.position_bias,
                grouping=self.grouping,
                dtype=self.dtype,
                name=f"block_{i}",
            )
            x = block(x, valid, train)
        return x, valid


class CrossFormer(nn.Module):
    """Image in, one feature map per stage out, at strides 4, 8, 16 and 32; the defaults are CrossFormer-S.

    Raises:
        FieldError: the fields that have one entry per stage are not equally long.
    """

    family: ClassVar[str] = "crossformer"
    explanation: ClassVar[str] = "groups"

    channels: int = 96
    """Channels of the first stage; every further stage doubles them."""
    depths: tuple[int, ...] = (2, 2, 6, 2)
    """Blocks per stage."""
    heads: tuple[int, ...] = (3, 6, 12, 24)
    """Attention heads per stage."""
    group_sizes: tuple[int, ...] = (7, 7, 7, 7)
    """Tokens along a side of a group, per stage."""
    intervals: tuple[int, ...] = (8, 4, 2, 1)
    """Tokens from one to the next of a long distance group, per stage."""
    patch_kernels: tuple[int, ...] = (4, 8, 16, 32)
    """Sides of the patches that the first tokens are made of."""
    merge_kernels: tuple[int, ...] = (2, 4)
    """Sides of the patches of tokens that the next stage's tokens are made of."""
    expansion: float = 4.0
    """Hidden width of the feed-forward networks, as a multiple of the channels."""
    drop_path: float = 0.2
    """Probability, in training, that an image goes without the last block's branches; it rises linearly from 0."""
    cooling: bool = False
    """A cooling layer after every third block, but not after a stage's last (CrossFormer++)."""
    position_bias: PositionBias = "dynamic"
    """'dynamic': biases from a small network, for any group; 'table': Swin's, for groups of group_sizes at most."""
    grouping: Grouping = Grouping()
    """How maps of any size are cut into groups."""
    remat: bool = False
    """Compute activations of the blocks anew in the backward pass: less memory, more time."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """What is computed in; parameters, softmax and position biases are float32 always."""

    @property
    def title(self) -> str:
        """What people call it."""
        kind, depths = "CrossFormer++" if self.cooling else "CrossFormer", "+".join(map(str, self.depths))
        return f"{kind}-{self.channels} of {depths} blocks"

    @nn.compact
    def __call__(self, images: Images, *, padding: Padding = "exact", train: bool = False) -> tuple[Feature, ...]:
        """One feature map per stage, before the next stage's norm, finest first; images of any size.

        With `padding="exact"` a padded image gives what it gives alone, as long as groups do not depend on the size of
        the batch: `grouping` must have pad='end', and 'fixed' or 'whole' long distance groups. `"reference"` is the
        published code: padding of images leaks, small maps are cut in other ways, and only whole patches make tokens,
        so that sides that 32 does not divide are rounded down from stage to stage, not up.
        """
        self._check()
        x, valid = images.pixels.astype(self.dtype), images.valid if padding == "exact" else None
        features = []
        for i in range(len(self.depths)):
            x, valid = self._stage(i)(x, valid, train=train)
            if valid is None:
                features.append(Feature(x, resize_valid(images.valid, *x.shape[1:3])))
            else:
                features.append(Feature(clear(x, valid), valid))
        return tuple(features)

    def _check(self) -> None:
        per_stage = ("depths", "heads", "group_sizes", "intervals")
        lengths = {name: len(getattr(self, name)) for name in per_stage}
        if len(set(lengths.values())) > 1:
            raise FieldError(f"CrossFormer needs one entry per stage in each of {', '.join(per_stage)}; got {lengths}.")

    def _stage(self, i: int) -> CrossFormerStage:
        embedding = CrossScaleEmbedding(
            channels=self.channels * 2**i,
            kernels=self.merge_kernels if i else self.patch_kernels,
            stride=2 if i else STRIDE,
            norm="before" if i else "after",
            dtype=self.dtype,
            parent=None,
        )
        return CrossFormerStage(
            embedding,
            self.heads[i],
            self.group_sizes[i],
            self.intervals[i],
            drop_paths=drop_paths(self.depths, self.drop_path)[i],
            cooling=self.cooling,
            expansion=self.expansion,
            position_bias=self.position_bias,
            grouping=self.grouping,
            dtype=self.dtype,
            remat=self.remat,
            name=f"stage_{i + 1}",
        )


def crossformer_tiny(**changes: Any) -> CrossFormer:
    """CrossFormer-T: 27.8 M parameters as a classifier, published with 81.5 % top-1 on ImageNet."""
    return CrossFormer(channels=64, depths=(1, 1, 8, 6), heads=(2, 4, 8, 16), drop_path=0.1).clone(**changes)


def crossformer_small(**changes: Any) -> CrossFormer:
    """CrossFormer-S: 30.7 M parameters as a classifier, published with 82.5 % top-1 on ImageNet."""
    return CrossFormer().clone(**changes)


def crossformer_base(**changes: Any) -> CrossFormer:
    """CrossFormer-B: 52.0 M parameters as a classifier, published with 83.4 % top-1 on ImageNet."""
    return CrossFormer(depths=(2, 2, 18, 2), drop_path=0.3).clone(**changes)


def crossformer_large(**changes: Any) -> CrossFormer:
    """CrossFormer-L: 92.0 M parameters as a classifier, published with 84.0 % top-1 on ImageNet."""
    return crossformer_base(channels=128, heads=(4, 8, 16, 32), drop_path=0.5).clone(**changes)


def crossformer_pp_small(**changes: Any) -> CrossFormer:
    """CrossFormer++-S: 23.3 M parameters as a classifier, published with 83.2 % top-1 on ImageNet."""
    return crossformer_pp_base(channels=64, heads=(2, 4, 8, 16), drop_path=0.2).clone(**changes)


def crossformer_pp_base(**changes: Any) -> CrossFormer:
    """CrossFormer++-B: 52.0 M parameters as a classifier, published with 84.2 % top-1 on ImageNet.

    The published detectors take the groups and intervals of CrossFormer, `CrossFormer.group_sizes`, instead.
    """
    groups: dict[str, Any] = {"group_sizes": (4, 4, 14, 7), "intervals": (4, 2, 1, 1), "cooling": True}
    return crossformer_base(**groups).clone(**changes)


def crossformer_pp_large(**changes: Any) -> CrossFormer:
    """CrossFormer++-L: 92.0 M parameters as a classifier, published with 84.7 % top-1 on ImageNet."""
    return crossformer_pp_base(channels=128, heads=(4, 8, 16, 32), drop_path=0.5).clone(**changes)


def crossformer_pp_huge(**changes: Any) -> CrossFormer:
    """CrossFormer++-H: 96.0 M parameters as a classifier, published with 84.9 % top-1 on ImageNet."""
    return crossformer_pp_large(depths=(6, 6, 18, 2)).clone(**changes)
