"""Deformable DETR: set prediction with attention to a few points on several scales. Source: Zhu et al. 2021."""

import dataclasses
import math
from typing import Any, ClassVar, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from vitjax.backbones.resnet import ResNet
from vitjax.detection.deformable_decoder import DeformableDecoder
from vitjax.detection.deformable_encoder import DeformableEncoder, Memory
from vitjax.detection.proposals import Proposals, QueriesValid
from vitjax.errors import FieldError
from vitjax.layers.feed_forward import Perceptron
from vitjax.layers.norms import MaskedGroupNorm
from vitjax.ops.convolution import conv_general_dilated
from vitjax.ops.initializers import torch_kernel
from vitjax.ops.masks import resize_valid, valid_ratio
from vitjax.ops.positions import sine
from vitjax.structs import ANSWER, Feature, Images, Padding, Predictions, PredictionSet

PRIOR = 0.01  # probability of every class before training
NOTHING = -30.0  # logit of every class of a query that is not valid


class DeformableDETR(nn.Module):
    """Backbone, deformable transformer over several levels, heads; sigmoid scores, so there is no class 'no object'.

    The defaults are the published multi-scale model; `levels=1, backbone_levels=1` is the single-scale one. Inner
    tensors (`encoder_input`, `level_positions`, `memory`, `tokens_valid`, `valid_ratios`, `level_shapes`,
    `initial_reference`, `queries`, and the decoder's `references`) are sown into `intermediates`.
    """

    task: ClassVar[str] = "detection"
    family: ClassVar[str] = "deformable_detr"
    scores: ClassVar[str] = "sigmoid"

    backbone: nn.Module = dataclasses.field(default_factory=ResNet)
    """What turns the image into feature maps."""
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
    feed_forward: int = 1024
    """Hidden width of the feed-forward networks."""
    dropout: float = 0.1
    """Dropout rate."""
    levels: int = 4
    """Feature maps that the transformer sees; those beyond the backbone's are made by convolutions of stride 2."""
    backbone_levels: int = 3
    """How many of them are the backbone's, its coarsest."""
    encoder_points: int = 4
    """Points that each head samples on each level, in the encoder."""
    decoder_points: int = 4
    """Points that each head samples on each level, in the decoder."""
    refine: bool = False
    """Each decoder layer refines the boxes of the layer before, and has heads of its own."""
    two_stage: bool = False
    """The queries come from proposals of the encoder instead of being learned; needs refine."""
    padding: Padding = "exact"
    """'exact': a padded image gives what it gives alone; 'reference': padding leaks as in the published code."""
    remat: bool = False
    """Compute activations of the transformer's layers anew in the backward pass: less memory, more time."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """What the transformer computes in; locations, softmax, boxes, costs and losses are float32 always."""

    @nn.compact
    def __call__(self, images: Images, *, train: bool) -> Predictions:
        """Logits over classes and cxcywh boxes, for every decoder layer; with two stages also the proposals.

        Raises:
            FieldError: `num_classes` is still None, or fields contradict each other or the backbone.
        """
        self._check()
        pyramid = self._pyramid(images, train=train)
        shapes = tuple((rows, columns) for _, rows, columns in (feature.valid.shape for feature in pyramid))
        tokens, position, valid = (jnp.concatenate(parts, axis=1) for parts in self._flat(pyramid))
        ratios = jnp.stack([valid_ratio(feature.valid) for feature in pyramid], axis=1)
        self._keep(encoder_input=tokens, level_positions=position, tokens_valid=valid, valid_ratios=ratios)
        self._keep(level_shapes=jnp.array(shapes))

        sizes: dict[str, Any] = {"heads": self.heads, "levels": self.levels, "feed_forward": self.feed_forward}
        sizes |= {"dropout": self.dropout, "remat": self.remat, "dtype": self.dtype}
        encoder = DeformableEncoder(self.encoder_layers, points=self.encoder_points, **sizes, name="encoder")
        memory = encoder(Memory(tokens, valid, ratios, shapes), position, train=train)
        self._keep(memory=memory.tokens)

        class_heads, box_heads = self._heads()
        proposals, reference, embedding, queries_valid = self._queries(memory, class_heads, box_heads)
        query_position, content = jnp.split(embedding.astype(self.dtype), 2, axis=-1)
        self._keep(initial_reference=reference)
        decoder = DeformableDecoder(
            self.decoder_layers, points=self.decoder_points, refine=self.refine, **sizes, name="decoder"
        )
        queries, boxes = decoder(
            content, query_position, reference, memory, box_heads, valid=queries_valid, train=train
        )
        self._keep(queries=queries)
        logits = jnp.stack([head(x) for head, x in zip(class_heads, queries.astype(jnp.float32), strict=False)])
        if queries_valid is not None:
            logits = jnp.where(queries_valid[..., None], logits, NOTHING)
            queries_valid = jnp.broadcast_to(queries_valid, logits.shape[:3])
        return Predictions({ANSWER: PredictionSet(logits, boxes, queries_valid)} | proposals)

    def _check(self) -> None:
        if self.num_classes is None:
            raise FieldError(
                "DeformableDETR needs num_classes; got None. Training fills it in from the data, or set it yourself."
            )
        if self.two_stage and not self.refine:
            raise FieldError("two_stage=True needs refine=True: its proposals are boxes, which are refined from there.")
        if not 1 <= self.backbone_levels <= self.levels:
            raise FieldError(f"backbone_levels must be 1 to levels={self.levels}; got {self.backbone_levels}.")

    def _keep(self, **tensors: Any) -> None:
        for name, tensor in tensors.items():
            self.sow("intermediates", name, tensor)

    def _pyramid(self, images: Images, *, train: bool) -> list[Feature]:
        """The levels at the transformer's width, finest first."""
        features = self.backbone(images, padding=self.padding, train=train)
        if len(features) < self.backbone_levels:
            raise FieldError(f"the backbone gives {len(features)} maps; backbone_levels={self.backbone_levels}.")
        pyramid = [self._project(feature, level) for level, feature in enumerate(features[-self.backbone_levels :])]
        last = features[-1]
        for level in range(self.backbone_levels, self.levels):
            last = self._project(last, level, stride=2, images=images)
            pyramid.append(last)
        return pyramid

    def _project(self, feature: Feature, level: int, stride: int = 1, images: Images | None = None) -> Feature:
        """A map at the transformer's width; with `images`, one of half the size whose mask may be taken from them."""
        kernel = 2 * stride - 1
        values = nn.Conv(
            self.channels,
            (kernel, kernel),
            strides=stride,
            padding=kernel // 2,
            kernel_init=nn.initializers.xavier_uniform(),
            conv_general_dilated=conv_general_dilated,
            dtype=self.dtype,
            name=f"input_projection_{level}",
        )(feature.values)
        norm = MaskedGroupNorm(math.gcd(32, self.channels), name=f"input_norm_{level}")
        if self.padding == "reference":
            valid = feature.valid if images is None else resize_valid(images.valid, *values.shape[1:3])
            return Feature(norm(values, jnp.ones_like(valid)), valid)
        valid = feature.valid[:, ::stride, ::stride]
        return Feature(jnp.where(valid[..., None], norm(values, valid), 0), valid)

    def _flat(self, pyramid: list[Feature]) -> tuple[list[Array], list[Array], list[Array]]:
        """Values, positions and validity of every level as rows of tokens."""
        embedding = self.param("level_embedding", nn.initializers.normal(1.0), (self.levels, self.channels))
        positions = [
            sine(feature.valid, self.channels, offset=-0.5) + embedding[level] for level, feature in enumerate(pyramid)
        ]
        batch = pyramid[0].values.shape[0]
        values = [feature.values.reshape(batch, -1, self.channels) for feature in pyramid]
        rows = [position.astype(self.dtype).reshape(batch, -1, self.channels) for position in positions]
        return values, rows, [feature.valid.reshape(batch, -1) for feature in pyramid]

    def _heads(self) -> tuple[list[nn.Module], list[nn.Module]]:
        """Class and box heads: one of each decoder layer, then one of the proposals; all the same without refinement.

        A box starts as its reference point with a size of 0.12, or as its reference box. Each head draws its own
        weights; the published code copies one draw for all.
        """
        bias = nn.initializers.constant(-math.log((1 - PRIOR) / PRIOR))

        def classify(name: str) -> nn.Module:
            return nn.Dense(self.num_classes or 0, kernel_init=torch_kernel, bias_init=bias, name=f"class_head{name}")

        def locate(name: str, start: tuple[float, ...]) -> nn.Module:
            return Perceptron(self.channels, 4, start=start, name=f"box_head{name}")

        still, small = (0.0,) * 4, (0.0, 0.0, -2.0, -2.0)
        if not self.refine:
            return [classify("")] * self.decoder_layers, [locate("", small)] * self.decoder_layers
        count = self.decoder_layers + self.two_stage
        starts = [still if i or self.two_stage else small for i in range(count)]
        return [classify(f"_{i}") for i in range(count)], [locate(f"_{i}", start) for i, start in enumerate(starts)]

    def _queries(
        self, memory: Memory, class_heads: list[nn.Module], box_heads: list[nn.Module]
    ) -> tuple[
        dict[str, PredictionSet], Float[Array, "batch queries _"], Float[Array, "batch queries both"], QueriesValid
    ]:
        """Proposals if there are two stages, references, (position, content) embeddings, and which are valid."""
        if self.two_stage:
            leave_out = ~memory.valid if self.padding == "exact" else None
            propose = Proposals(self.num_queries, name="proposals")
            heads = (class_heads[-1], box_heads[-1])
            proposals, reference, embedding, queries_valid = propose(memory, *heads, leave_out)
            return {"proposal": proposals}, reference, embedding, queries_valid
        embedding = self.param("query_embedding", nn.initializers.normal(1.0), (self.num_queries, 2 * self.channels))
        point = nn.Dense(2, kernel_init=nn.initializers.xavier_uniform(), name="reference_points")
        reference = jax.nn.sigmoid(point(embedding[:, : self.channels]))
        batch = memory.tokens.shape[0]
        reference, embedding = (jnp.broadcast_to(x, (batch, *x.shape)) for x in (reference, embedding))
        return {}, reference, embedding, None
