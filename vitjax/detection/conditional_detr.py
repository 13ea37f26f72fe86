"""Conditional DETR: queries that learn where in the image to look. Source: Meng et al. 2021."""

from typing import ClassVar, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Float

from vitjax.detection.conditional_transformer import (
    Cells,
    ConditionalDecoderLayer,
    ConditionalDetector,
    TwoLayers,
)
from vitjax.detection.dino import box_head_of, class_head_of
from vitjax.detection.transformer import Queries, layer_norm
from vitjax.layers.positions import LearnedPosition
from vitjax.ops.boxes import inverse_sigmoid
from vitjax.ops.positions import sine, sine_of_boxes
from vitjax.structs import ANSWER, Images, Inner, Predictions, PredictionSet


class ConditionalDETR(ConditionalDetector):
    """Backbone, transformer with conditional attention, heads; sigmoid scores, so there is no class 'no object'.

    Every learned query has a reference point, from which its box is predicted. Inner tensors are sown as those of a
    DETR, and the `reference` points.
    """

    task: ClassVar[str] = "detection"
    family: ClassVar[str] = "conditional_detr"
    scores: ClassVar[str] = "sigmoid"

    position: Literal["sine", "learned"] = "sine"
    """Kind of position embedding; 'learned' reaches 50 x 50 cells."""

    @nn.compact
    def inner(self, images: Images, *, train: bool) -> Inner:
        """The predictions, with all that a head for masks needs besides.

        Raises:
            FieldError: `num_classes` is still None.
        """
        class_head, box_head = class_head_of(self.classes()), box_head_of(self.channels)
        features, feature = self.coarsest(images, train=train)
        if self.position == "learned":
            position = LearnedPosition(self.channels, name="position")(feature.valid)
        else:
            position = sine(feature.valid, self.channels)
        memory = self.encoded(feature, position, train=train)
        embedding = self.param("query_embedding", nn.initializers.normal(1.0), (self.num_queries, self.channels))
        asked = jnp.broadcast_to(embedding, (memory.values.shape[0], *embedding.shape))
        sizes = (self.decoder_layers, self.heads, self.feed_forward, self.dropout, self.remat, self.dtype)
        queries, reference = ConditionalDecoder(*sizes, name="decoder")(asked, memory, train=train)
        self.sow("intermediates", "queries", queries)
        self.sow("intermediates", "reference", reference)
        precise = queries.astype(jnp.float32)
        boxes = jax.nn.sigmoid(box_head(precise).at[..., :2].add(inverse_sigmoid(reference)))
        said = Predictions({ANSWER: PredictionSet(class_head(precise), boxes)})
        return Inner(said, features, feature.values, memory.values.reshape(feature.values.shape), queries)


class ConditionalDecoder(nn.Module):
    """A row of decoder layers whose outputs all go through one shared norm."""

    layers: int
    heads: int
    feed_forward: int
    dropout: float = 0.0
    remat: bool = False
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(
        self, embedding: Queries, memory: Cells, *, train: bool
    ) -> tuple[Float[Array, "layers batch queries channels"], Float[Array, "batch queries 2"]]:
        """The queries after every layer, from zeros on, and the reference point (x, y) in [0, 1] of each."""
        layer = nn.remat(ConditionalDecoderLayer, static_argnums=(5, 6)) if self.remat else ConditionalDecoderLayer
        sizes = (self.heads, self.feed_forward, self.dropout)
        channels, norm = embedding.shape[-1], layer_norm("norm", self.dtype)
        scale = TwoLayers(channels, channels, self.dtype, name="position_scale")
        reference = jax.nn.sigmoid(TwoLayers(channels, 2, name="reference_points")(embedding))
        # As cells have them: that of the row, then that of the column.
        sines = sine_of_boxes(reference[..., jnp.array([1, 0, 1, 0])], channels // 2)[..., :channels]
        embedding = embedding.astype(memory.values.dtype)
        x, outputs = jnp.zeros_like(embedding), []
        for i in range(self.layers):
            scales = scale(x)  # of the first layer nothing is known yet; what is not used is not computed
            spatial = sines * scales if i else sines
            x = layer(*sizes, dtype=self.dtype, name=f"layer_{i}")(x, embedding, spatial, memory, i == 0, train)
            outputs.append(norm(x))
        return jnp.stack(outputs), reference
