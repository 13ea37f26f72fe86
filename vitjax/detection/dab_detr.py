"""DAB-DETR: queries that are boxes, which every layer moves. Source: Liu et al. 2022."""

from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import DTypeLike
from jaxtyping import Float

from vitjax.detection.conditional_transformer import (
    Activation,
    Cells,
    ConditionalDecoderLayer,
    ConditionalDetector,
    TwoLayers,
)
from vitjax.detection.dino import box_head_of, class_head_of
from vitjax.detection.transformer import Queries, layer_norm
from vitjax.errors import FieldError
from vitjax.ops.boxes import inverse_sigmoid
from vitjax.ops.positions import sine, sine_of_boxes
from vitjax.structs import ANSWER, Images, Inner, Predictions, PredictionSet

Boxes = Float[Array, "batch queries 4"]


class DABDETR(ConditionalDetector):
    """Backbone, transformer with conditional attention, heads; sigmoid scores, so there is no class 'no object'.

    Every query is a learned box, its anchor: where it is and how large says where in the image the query looks, and
    every layer predicts it anew. Inner tensors are sown as those of a DETR, and the decoder's `references`.
    """

    task: ClassVar[str] = "detection"
    family: ClassVar[str] = "dab_detr"
    scores: ClassVar[str] = "sigmoid"

    dropout: float = 0.0
    """Dropout rate, also on attention weights."""
    patterns: int = 0
    """Learned contents that share the queries, each with the same anchors; with 0 all queries start from zeros."""
    temperature: int = 20
    """Of the sine embedding of the map: how much longer the longest wavelength is than the shortest."""
    activation: Activation = "prelu"
    """Of the feed-forward networks; 'prelu' learns its slope below zero."""
    keep_query_position: bool = False
    """The position of a query is added to its content in every layer, not in the first alone."""
    encoder_norm: bool = False
    """A norm after the encoder."""
    uniform_centres: bool = False
    """The centres of the anchors start evenly spread over the image; else they crowd around its middle."""

    @nn.compact
    def inner(self, images: Images, *, train: bool) -> Inner:
        """The predictions, with all that a head for masks needs besides.

        Raises:
            FieldError: `num_classes` is still None, or the patterns cannot share the queries.
        """
        class_head, box_head = class_head_of(self.classes()), box_head_of(self.channels)
        features, feature = self.coarsest(images, train=train)
        position = sine(feature.valid, self.channels, temperature=float(self.temperature))
        memory = self.encoded(feature, position, self.activation, scaled=True, norm=self.encoder_norm, train=train)
        content, anchors = self._queries(memory)
        sizes = (self.decoder_layers, self.heads, self.feed_forward, self.dropout, self.activation)
        decoder = DABDecoder(*sizes, self.keep_query_position, self.remat, self.dtype, name="decoder")
        queries, boxes = decoder(content, anchors, memory, box_head, train=train)
        self.sow("intermediates", "queries", queries)
        said = Predictions({ANSWER: PredictionSet(class_head(queries.astype(jnp.float32)), boxes)})
        return Inner(said, features, feature.values, memory.values.reshape(feature.values.shape), queries)

    def _queries(self, memory: Cells) -> tuple[Queries, Boxes]:
        """The contents that the queries start from, and their anchors, pattern by pattern."""
        patterns = max(self.patterns, 1)
        if self.patterns < 0 or self.num_queries % patterns:
            raise FieldError(
                f"patterns must be 0 or divide num_queries={self.num_queries}, which they share; got {self.patterns}."
            )
        each, start = self.num_queries // patterns, spread_anchors if self.uniform_centres else crowded_anchors
        anchors = jax.nn.sigmoid(self.param("anchors", start, (each, 4)))
        content = jnp.zeros((1, self.channels))
        if self.patterns:
            content = self.param("patterns", nn.initializers.xavier_uniform(), (patterns, self.channels))
        content, anchors = jnp.repeat(content.astype(self.dtype), each, axis=0), jnp.tile(anchors, (patterns, 1))
        batch = memory.values.shape[0]
        return jnp.broadcast_to(content, (batch, *content.shape)), jnp.broadcast_to(anchors, (batch, *anchors.shape))


class DABDecoder(nn.Module):
    """A row of decoder layers, each of which moves the boxes that the queries are.

    `references` after every layer are sown into `intermediates`.
    """

    layers: int
    heads: int
    feed_forward: int
    dropout: float = 0.0
    activation: Activation = "prelu"
    keep_query_position: bool = False
    remat: bool = False
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(
        self, x: Queries, reference: Boxes, memory: Cells, box_head: nn.Module, *, train: bool
    ) -> tuple[Float[Array, "layers batch queries channels"], Float[Array, "layers batch queries 4"]]:
        """The normalised queries and the cxcywh boxes after every layer."""
        layer = nn.remat(ConditionalDecoderLayer, static_argnums=(5, 6)) if self.remat else ConditionalDecoderLayer
        sizes = (self.heads, self.feed_forward, self.dropout, self.activation, self.dtype)
        channels, norm = x.shape[-1], layer_norm("norm", self.dtype)
        scale = TwoLayers(channels, channels, self.dtype, name="position_scale")
        locate = TwoLayers(channels, channels, self.dtype, name="query_position")
        measure = TwoLayers(channels, 2, name="reference_size")
        queries: list[Array] = []
        boxes: list[Array] = []
        before = reference  # what a box is predicted from: its loss trains the layer before, too
        for i in range(self.layers):
            sines = sine_of_boxes(reference[..., jnp.array([1, 0, 2, 3])], channels // 2)
            scales = scale(x)  # of the first layer nothing is known yet; what is not used is not computed
            spatial = sines[..., :channels] * scales if i else sines[..., :channels]
            spatial = spatial * _modulation(jax.nn.sigmoid(measure(x.astype(jnp.float32))), reference, channels)
            located = self.keep_query_position or i == 0
            x = layer(*sizes, name=f"layer_{i}")(x, locate(sines), spatial, memory, located, train)
            queries.append(norm(x))
            boxes.append(_moved(before, box_head(queries[-1].astype(jnp.float32))))
            before = _moved(reference, box_head(x.astype(jnp.float32)))
            reference = lax.stop_gradient(before)
            self.sow("intermediates", "references", reference)
        return jnp.stack(queries), jnp.stack(boxes)


def _moved(box: Boxes, change: Boxes) -> Boxes:
    return jax.nn.sigmoid(change + inverse_sigmoid(box))


def _modulation(
    size: Float[Array, "batch queries 2"], reference: Boxes, channels: int
) -> Float[Array, "batch queries channels"]:
    """What makes a query look less far along a side by which its box is longer than the (width, height) it wants."""
    width, height = jnp.split(size / reference[..., 2:], 2, axis=-1)
    return jnp.concatenate([jnp.repeat(side, channels // 2, axis=-1) for side in (height, width)], axis=-1)


def crowded_anchors(key: Array, shape: tuple[int, int]) -> Float[Array, "anchors 4"]:
    """Logits of boxes around the middle of the image, as they are published."""
    return jax.random.normal(key, shape)


def spread_anchors(key: Array, shape: tuple[int, int]) -> Float[Array, "anchors 4"]:
    """Logits of boxes whose centres are anywhere in the image alike.

    They are published as fixed; the published code trains them with the rest, as is done here.
    """
    centres = jax.random.uniform(jax.random.fold_in(key, 1), (shape[0], 2))
    return crowded_anchors(key, shape).at[:, :2].set(inverse_sigmoid(centres))
