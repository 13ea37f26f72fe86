"""From an image to the memory of several levels that a deformable decoder reads. Source: Zhu et al. 2021, section 4.1.

Functions for the compact method of a detector, whose modules and parameters they make.
"""

import math
from typing import Any, NamedTuple, Protocol, runtime_checkable

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from vitjax.detection.deformable_encoder import DeformableEncoder, Memory
from vitjax.errors import FieldError
from vitjax.layers.masked_norms import MaskedGroupNorm
from vitjax.ops.convolution import conv_general_dilated
from vitjax.ops.masks import resize_valid
from vitjax.ops.padded_maps import valid_ratio
from vitjax.ops.positions import sine
from vitjax.structs import Feature, Images, Padding


@runtime_checkable
class Sowing(Protocol):
    """What sows, as a Flax module does."""

    def sow(self, collection: str, name: str, value: Any) -> Any:
        """Keeps a value in a collection."""


@runtime_checkable
class OnLevels(Sowing, Protocol):
    """The fields of a detector on several levels."""

    backbone: nn.Module
    channels: int
    heads: int
    encoder_layers: int
    feed_forward: int
    dropout: float
    levels: int
    backbone_levels: int
    encoder_points: int
    padding: Padding
    remat: bool
    dtype: Any

    def param(self, name: str, *arguments: Any) -> Any:
        """A parameter, as a Flax module makes it."""


class Encoded(NamedTuple):
    """The memory of all levels, the maps of the backbone, and the coarsest of them before and after the encoder."""

    memory: Memory
    features: tuple[Feature, ...]
    projected: Float[Array, "batch h w channels"]
    coarsest: Float[Array, "batch h w channels"]


def encode(model: OnLevels, images: Images, *, train: bool, **position: float) -> Encoded:
    """The encoder's memory and what it is of; `position` are options of the sine embedding.

    `encoder_input`, `level_positions`, `memory`, `tokens_valid`, `valid_ratios` and `level_shapes` are sown into
    `intermediates`.
    """
    features, levels = pyramid(model, images, train=train)
    shapes = tuple((rows, columns) for _, rows, columns in (level.valid.shape for level in levels))
    tokens, located, valid = (jnp.concatenate(parts, axis=1) for parts in _flat(model, levels, position))
    ratios = jnp.stack([valid_ratio(level.valid) for level in levels], axis=1)
    keep(model, encoder_input=tokens, level_positions=located, tokens_valid=valid, valid_ratios=ratios)
    keep(model, level_shapes=jnp.array(shapes))
    encoder = DeformableEncoder(model.encoder_layers, points=model.encoder_points, **sizes_of(model), name="encoder")
    memory = encoder(Memory(tokens, valid, ratios, shapes), located, train=train)
    keep(model, memory=memory.tokens)
    last = model.backbone_levels - 1
    projected, first = levels[last].values, sum(rows * columns for rows, columns in shapes[:last])
    coarsest = memory.tokens[:, first : first + math.prod(shapes[last])].reshape(projected.shape)
    return Encoded(memory, features, projected, coarsest)


def keep(module: Sowing, **tensors: Any) -> None:
    """Sows tensors into `intermediates` under their names."""
    for name, tensor in tensors.items():
        module.sow("intermediates", name, tensor)


def sizes_of(model: OnLevels) -> dict[str, Any]:
    """What encoder and decoder have in common."""
    names = ("heads", "levels", "feed_forward", "dropout", "remat", "dtype")
    return {name: getattr(model, name) for name in names}


def pyramid(model: OnLevels, images: Images, *, train: bool) -> tuple[tuple[Feature, ...], list[Feature]]:
    """The maps of the backbone, and the levels at the transformer's width, finest first.

    Raises:
        FieldError: `backbone_levels` contradicts `levels` or the backbone.
    """
    if not 1 <= model.backbone_levels <= model.levels:
        raise FieldError(f"backbone_levels must be 1 to levels={model.levels}; got {model.backbone_levels}.")
    features = model.backbone(images, padding=model.padding, train=train)
    if len(features) < model.backbone_levels:
        raise FieldError(f"the backbone gives {len(features)} maps; backbone_levels={model.backbone_levels}.")
    found = [project(model, feature, level) for level, feature in enumerate(features[-model.backbone_levels :])]
    last = features[-1]
    for level in range(model.backbone_levels, model.levels):
        last = project(model, last, level, stride=2, images=images)
        found.append(last)
    return features, found


def project(model: OnLevels, feature: Feature, level: int, stride: int = 1, images: Images | None = None) -> Feature:
    """A map at the transformer's width; with `images`, one of half the size whose mask may be taken from them."""
    kernel = 2 * stride - 1
    values = nn.Conv(
        model.channels,
        (kernel, kernel),
        strides=stride,
        padding=kernel // 2,
        kernel_init=nn.initializers.xavier_uniform(),
        conv_general_dilated=conv_general_dilated,
        dtype=model.dtype,
        name=f"input_projection_{level}",
    )(feature.values)
    norm = MaskedGroupNorm(math.gcd(32, model.channels), name=f"input_norm_{level}")
    if model.padding == "reference":
        valid = feature.valid if images is None else resize_valid(images.valid, *values.shape[1:3])
        return Feature(norm(values, jnp.ones_like(valid)), valid)
    valid = feature.valid[:, ::stride, ::stride]
    return Feature(jnp.where(valid[..., None], norm(values, valid), 0), valid)


def _flat(
    model: OnLevels, features: list[Feature], position: dict[str, Any]
) -> tuple[list[Array], list[Array], list[Array]]:
    """Values, positions and validity of every level as rows of tokens."""
    channels = model.channels
    embedding = model.param("level_embedding", nn.initializers.normal(1.0), (model.levels, channels))
    located = [sine(feature.valid, channels, **position) + embedding[level] for level, feature in enumerate(features)]
    batch = features[0].values.shape[0]
    values = [feature.values.reshape(batch, -1, channels) for feature in features]
    rows = [one.astype(model.dtype).reshape(batch, -1, channels) for one in located]
    return values, rows, [feature.valid.reshape(batch, -1) for feature in features]
