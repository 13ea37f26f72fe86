"""DETR: object detection as set prediction. Source: Carion et al. 2020."""

import dataclasses
from typing import ClassVar, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from vitjax.backbones.resnet import ResNet
from vitjax.detection.transformer import Decoder, Encoder
from vitjax.errors import FieldError
from vitjax.layers.feed_forward import Perceptron
from vitjax.layers.linear import Dense
from vitjax.ops.convolution import conv_general_dilated
from vitjax.ops.initializers import torch_bias, torch_kernel
from vitjax.ops.positions import sine
from vitjax.structs import ANSWER, Feature, Images, Inner, Padding, Predictions, PredictionSet


class DETR(nn.Module):
    """Backbone, transformer and heads; one box and one class, or none, per learned query.

    Inner tensors (`projected`, `positions`, `memory`, `queries`, attention weights) are sown into `intermediates`.
    """

    task: ClassVar[str] = "detection"
    family: ClassVar[str] = "detr"
    scores: ClassVar[str] = "softmax"

    backbone: nn.Module = dataclasses.field(default_factory=ResNet)
    """What turns the image into feature maps; the coarsest is used."""
    num_classes: int | None = None
    """Number of class labels, without 'no object'; None takes it from the data."""
    num_queries: int = 100
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
    pre_norm: bool = False
    """Normalise before instead of after each sublayer."""
    position: Literal["sine", "learned"] = "sine"
    """Kind of position embedding; 'learned' reaches 50 x 50 cells."""
    padding: Padding = "exact"
    """'exact': a padded image gives what it gives alone; 'reference': padding leaks as in the published code."""
    remat: bool = False
    """Compute activations of the transformer's layers anew in the backward pass: less memory, more time."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """What the transformer computes in; softmax, boxes, costs and losses are float32 always."""

    def __call__(self, images: Images, *, train: bool) -> Predictions:
        """Logits over classes and 'no object' (last) and cxcywh boxes, for every decoder layer.

        Raises:
            FieldError: `num_classes` is still None.
        """
        return self.inner(images, train=train).predictions

    @nn.compact
    def inner(self, images: Images, *, train: bool) -> Inner:
        """The predictions, with all that a head for masks needs besides: one pass gives both.

        Raises:
            FieldError: `num_classes` is still None.
        """
        if self.num_classes is None:
            raise FieldError(
                "DETR needs num_classes; got None. Training fills it in from the data, or set it yourself."
            )
        features = self.backbone(images, padding=self.padding, train=train)
        feature = features[-1]
        position = self._positions(feature)
        batch = feature.values.shape[0]
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
        tokens, position = (x.reshape(batch, -1, self.channels) for x in (projected, position))
        valid = feature.valid.reshape(batch, -1)
        sizes = (self.heads, self.feed_forward, self.dropout, self.pre_norm, self.dtype, self.remat)
        memory = Encoder(self.encoder_layers, *sizes, name="encoder")(tokens, position, valid, train=train)
        self.sow("intermediates", "memory", memory)

        embedding = self.param("query_embedding", nn.initializers.normal(1.0), (self.num_queries, self.channels))
        asked = jnp.broadcast_to(embedding.astype(self.dtype), (batch, *embedding.shape))
        queries = Decoder(self.decoder_layers, *sizes, name="decoder")(asked, memory, position, valid, train=train)
        self.sow("intermediates", "queries", queries)
        said = self._heads(queries, self.num_classes + 1)
        return Inner(said, features, projected, memory.reshape(projected.shape), queries)

    def _positions(self, feature: Feature) -> Float[Array, "batch height width channels"]:
        if self.position == "learned":
            from vitjax.layers.positions import LearnedPosition

            position = LearnedPosition(self.channels, name="position")(feature.valid)
        else:
            position = sine(feature.valid, self.channels)
        self.sow("intermediates", "positions", position)
        return position.astype(self.dtype)

    def _heads(self, queries: Float[Array, "layers batch queries channels"], classes: int) -> Predictions:
        classify = Dense(classes, kernel_init=torch_kernel, bias_init=torch_bias(self.channels), name="class_head")
        locate = Perceptron(self.channels, 4, name="box_head")
        queries = queries.astype(jnp.float32)
        return Predictions({ANSWER: PredictionSet(classify(queries), jax.nn.sigmoid(locate(queries)))})
