"""What Conditional DETR and DAB-DETR have in common: fields, layers and the encoder. Source: Meng et al. 2021."""

import dataclasses
from functools import partial
from typing import Literal

import flax.linen as nn
import jax.numpy as jnp
from flax import struct
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Float

from vitjax.attention.conditional import ConditionalAttention
from vitjax.attention.multi_head import MultiHeadAttention
from vitjax.backbones.resnet import ResNet
from vitjax.detection.transformer import Queries, Tokens, Valid, layer_norm
from vitjax.errors import FieldError
from vitjax.layers.feed_forward import FeedForward
from vitjax.layers.linear import Dense, Dropout
from vitjax.ops.convolution import conv_general_dilated
from vitjax.ops.initializers import torch_bias, torch_kernel
from vitjax.structs import Feature, Images, Inner, Padding, Predictions

Activation = Literal["relu", "prelu"]


@struct.dataclass
class Cells:
    """The cells of a map in a row: their values, where they are, and which of them are valid."""

    values: Tokens
    position: Tokens
    valid: Valid


class ConditionalDetector(nn.Module):
    """The fields of a detector with conditional attention on one map, and its way to the memory."""

    backbone: nn.Module = dataclasses.field(default_factory=ResNet)
    """What turns the image into feature maps; the coarsest is used."""
    num_classes: int | None = None
    """Number of class labels; None takes it from the data."""
    num_queries: int = 300
    """Most objects that can be found in one image."""
    channels: int = 256
    """Width of the transformer."""
    heads: int = 8
    """Attention heads."""
    encoder_layers: int = 6
    """Layers of the encoder."""
    decoder_layers: int = 6
    """Layers of the decoder; each predicts, and all are trained."""
    feed_forward: int = 2048
    """Hidden width of the feed-forward networks."""
    dropout: float = 0.1
    """Dropout rate, also on attention weights."""
    padding: Padding = "exact"
    """'exact': a padded image gives what it gives alone; 'reference': padding leaks as in the published code."""
    remat: bool = False
    """Compute activations of the transformer's layers anew in the backward pass: less memory, more time."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """What the transformer computes in; locations, softmax, boxes, costs and losses are float32 always."""

    def classes(self) -> int:
        """The number of class labels.

        Raises:
            FieldError: `num_classes` is still None.
        """
        if self.num_classes is None:
            name = type(self).__name__
            raise FieldError(
                f"{name} needs num_classes; got None. Training fills it in from the data, or set it yourself."
            )
        return self.num_classes

    def __call__(self, images: Images, *, train: bool) -> Predictions:
        """Logits over classes and cxcywh boxes, for every decoder layer.

        Raises:
            FieldError: as `inner`.
        """
        return self.inner(images, train=train).predictions

    def inner(self, images: Images, *, train: bool) -> Inner:
        """The predictions, with all that a head for masks needs besides; the compact method of a detector."""
        raise NotImplementedError

    def coarsest(self, images: Images, *, train: bool) -> tuple[tuple[Feature, ...], Feature]:
        """The maps of the backbone, and the one that is used at the transformer's width; for a compact method."""
        features = self.backbone(images, padding=self.padding, train=train)
        feature = features[-1]
        projected = nn.Conv(
            self.channels,
            (1, 1),
            kernel_init=torch_kernel,
            bias_init=torch_bias(feature.values.shape[-1]),
            conv_general_dilated=conv_general_dilated,
            dtype=self.dtype,
            name="input_projection",
        )(feature.values)
        self.sow("intermediates", "projected", projected)
        return features, Feature(projected, feature.valid)

    def encoded(
        self,
        feature: Feature,
        position: Float[Array, "batch height width channels"],
        activation: Activation = "relu",
        *,
        scaled: bool = False,
        norm: bool = False,
        train: bool,
    ) -> Cells:
        """The encoder's memory of the cells of the map; for a compact method."""
        self.sow("intermediates", "positions", position)
        batch = feature.values.shape[0]
        values, located = (x.reshape(batch, -1, self.channels) for x in (feature.values, position.astype(self.dtype)))
        sizes = (self.encoder_layers, self.heads, self.feed_forward, self.dropout, activation, self.remat, self.dtype)
        encoder = ConditionalEncoder(*sizes, scaled=scaled, norm=norm, name="encoder")
        memory = encoder(Cells(values, located, feature.valid.reshape(batch, -1)), train=train)
        self.sow("intermediates", "memory", memory.values)
        return memory


class ConditionalLayer(nn.Module):
    """What layers of encoder and decoder have in common: residuals with a norm after them, a feed-forward network."""

    heads: int
    feed_forward: int
    dropout: float = 0.0
    activation: Activation = "relu"
    dtype: DTypeLike | None = None

    def added(self, name: str, x: Array, change: Array, *, train: bool) -> Array:
        """The tokens with a change by the sublayer of this name, normalised; for a compact method."""
        drop = partial(Dropout(self.dropout), train=train)
        return layer_norm(f"{name}_norm", self.dtype)(x + drop(change))

    def fed_forward(self, x: Array, *, train: bool) -> Array:
        """The tokens after the feed-forward network; for a compact method."""
        network = {"relu": FeedForward, "prelu": PReLUFeedForward}[self.activation]
        change = network(self.feed_forward, self.dropout, self.dtype, name="feed_forward")(x, train=train)
        return self.added("feed_forward", x, change, train=train)


class ConditionalEncoderLayer(ConditionalLayer):
    """Self-attention of cells, feed-forward network."""

    @nn.compact
    def __call__(self, x: Tokens, position: Tokens, valid: Valid, train: bool) -> Tokens:
        """The cells after this layer; `position` enters query and key, never the value."""
        attend, located = MultiHeadAttention(self.heads, self.dropout, self.dtype, name="self_attention"), x + position
        change = attend(located, located, x, valid, train=train)
        return self.fed_forward(self.added("self_attention", x, change, train=train), train=train)


class ConditionalDecoderLayer(ConditionalLayer):
    """Self-attention among the queries, conditional attention to the memory, feed-forward network."""

    @nn.compact
    def __call__(
        self, x: Queries, position: Queries, spatial: Queries, memory: Cells, located: bool, train: bool
    ) -> Queries:
        """The queries after this layer.

        `spatial` says where in the memory they look; where they are `located`, their `position` says it, too.
        """
        sizes = (self.heads, self.dropout, self.dtype)
        among = ConditionalAttention(*sizes, name="self_attention")
        across = ConditionalAttention(*sizes, name="cross_attention")
        x = self.added("self_attention", x, among(x, position, x, position, train=train), train=train)
        keys = (memory.values, memory.position, memory.valid)
        change = across(x, position if located else None, *keys, spatial, train=train)
        return self.fed_forward(self.added("cross_attention", x, change, train=train), train=train)


class ConditionalEncoder(nn.Module):
    """A row of encoder layers, in each of which the positions may be scaled by what the cells hold."""

    layers: int
    heads: int
    feed_forward: int
    dropout: float = 0.0
    activation: Activation = "relu"
    remat: bool = False
    dtype: DTypeLike | None = None
    scaled: bool = False
    """Positions are multiplied by a perceptron of the cell, the same one in all layers."""
    norm: bool = False
    """A norm after the last layer."""

    @nn.compact
    def __call__(self, cells: Cells, *, train: bool) -> Cells:
        """The memory that the decoder reads, whose positions are those that were given."""
        layer = nn.remat(ConditionalEncoderLayer, static_argnums=4) if self.remat else ConditionalEncoderLayer
        sizes = (self.heads, self.feed_forward, self.dropout, self.activation, self.dtype)
        x, channels = cells.values, cells.values.shape[-1]
        scale = TwoLayers(channels, channels, self.dtype, name="position_scale") if self.scaled else jnp.ones_like
        for i in range(self.layers):
            x = layer(*sizes, name=f"layer_{i}")(x, cells.position * scale(x), cells.valid, train)
        return dataclasses.replace(cells, values=layer_norm("norm", self.dtype)(x) if self.norm else x)


class TwoLayers(nn.Module):
    """ReLU perceptron of two layers that start as all of the transformer's do."""

    hidden: int
    outputs: int
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "*batch channels"]) -> Float[Array, "*batch outputs"]:
        """`x` through both layers."""
        for i, features in enumerate((self.hidden, self.outputs)):
            xavier, bias = nn.initializers.xavier_uniform(), torch_bias(x.shape[-1])
            x = nn.relu(x) if i else x
            x = Dense(features, dtype=self.dtype, kernel_init=xavier, bias_init=bias, name=f"layer_{i}")(x)
        return x


class PReLUFeedForward(nn.Module):
    """Network of one hidden layer with a slope below zero that is learned, one for all channels (He et al. 2015)."""

    hidden: int
    dropout: float = 0.0
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "*batch channels"], *, train: bool) -> Float[Array, "*batch channels"]:
        """`x` through both layers, with as many channels as before."""
        xavier, inputs = nn.initializers.xavier_uniform(), x.shape[-1]
        h = Dense(self.hidden, dtype=self.dtype, kernel_init=xavier, bias_init=torch_bias(inputs), name="expand")(x)
        slope = self.param("slope", nn.initializers.constant(0.25), (1,))
        h = jnp.where(h >= 0, h, slope.astype(h.dtype) * h)
        h = Dropout(self.dropout)(h, train=train)
        bias = torch_bias(self.hidden)
        return Dense(inputs, dtype=self.dtype, kernel_init=xavier, bias_init=bias, name="contract")(h)
