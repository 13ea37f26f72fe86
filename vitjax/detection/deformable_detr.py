"""Deformable DETR: set prediction with attention to a few points on several scales. Source: Zhu et al. 2021."""

import dataclasses
import math
from typing import ClassVar, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from vitjax.backbones.resnet import ResNet
from vitjax.detection.deformable_decoder import DeformableDecoder
from vitjax.detection.deformable_encoder import Memory
from vitjax.detection.levels import encode, keep, sizes_of
from vitjax.detection.proposals import Proposals, QueriesValid
from vitjax.errors import FieldError
from vitjax.layers.feed_forward import Perceptron
from vitjax.layers.linear import Dense
from vitjax.ops.initializers import torch_kernel
from vitjax.structs import ANSWER, Images, Inner, Padding, Predictions, PredictionSet

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
    num_queries: int | None = 300
    """Most objects that can be found in one image; None takes a number that suits the data."""
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

    def __call__(self, images: Images, *, train: bool) -> Predictions:
        """Logits over classes and cxcywh boxes, for every decoder layer; with two stages also the proposals.

        Raises:
            FieldError: `num_classes` is still None, or fields contradict each other or the backbone.
        """
        return self.inner(images, train=train).predictions

    @nn.compact
    def inner(self, images: Images, *, train: bool) -> Inner:
        """The predictions, with all that a head for masks needs besides.

        Raises:
            FieldError: as above.
        """
        self._check()
        encoded = encode(self, images, train=train, offset=-0.5)  # at pixel centres
        memory = encoded.memory
        class_heads, box_heads = self._heads()
        proposals, reference, embedding, queries_valid = self._queries(memory, class_heads, box_heads)
        query_position, content = jnp.split(embedding.astype(self.dtype), 2, axis=-1)
        keep(self, initial_reference=reference)
        decoder = DeformableDecoder(
            self.decoder_layers, points=self.decoder_points, refine=self.refine, **sizes_of(self), name="decoder"
        )
        queries, boxes = decoder(
            content, query_position, reference, memory, box_heads, valid=queries_valid, train=train
        )
        keep(self, queries=queries)
        logits = jnp.stack([head(x) for head, x in zip(class_heads, queries.astype(jnp.float32), strict=False)])
        if queries_valid is not None:
            logits = jnp.where(queries_valid[..., None], logits, NOTHING)
            queries_valid = jnp.broadcast_to(queries_valid, logits.shape[:3])
        said = Predictions({ANSWER: PredictionSet(logits, boxes, queries_valid)} | proposals)
        return Inner(said, *encoded[1:], queries)

    def _check(self) -> None:
        require_fitted(self)
        if self.two_stage and not self.refine:
            raise FieldError("two_stage=True needs refine=True: its proposals are boxes, which are refined from there.")

    def _heads(self) -> tuple[list[nn.Module], list[nn.Module]]:
        """Class and box heads: one of each decoder layer, then one of the proposals; all the same without refinement.

        A box starts as its reference point with a size of 0.12, or as its reference box. Each head draws its own
        weights; the published code copies one draw for all.
        """
        bias = nn.initializers.constant(-math.log((1 - PRIOR) / PRIOR))

        def classify(name: str) -> nn.Module:
            return Dense(self.num_classes or 0, kernel_init=torch_kernel, bias_init=bias, name=f"class_head{name}")

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
            propose = Proposals(self.num_queries or 0, name="proposals")
            heads = (class_heads[-1], box_heads[-1])
            proposals, reference, embedding, queries_valid = propose(memory, *heads, leave_out)
            return {"proposal": proposals}, reference, embedding, queries_valid
        embedding = self.param(
            "query_embedding", nn.initializers.normal(1.0), (self.num_queries or 0, 2 * self.channels)
        )
        point = Dense(2, kernel_init=nn.initializers.xavier_uniform(), name="reference_points")
        reference = jax.nn.sigmoid(point(embedding[:, : self.channels]))
        batch = memory.tokens.shape[0]
        reference, embedding = (jnp.broadcast_to(x, (batch, *x.shape)) for x in (reference, embedding))
        return {}, reference, embedding, None


def require_fitted(model: nn.Module) -> None:
    """Raises a FieldError where a model does not know yet how many classes or queries it has."""
    for name in ("num_classes", "num_queries"):
        if getattr(model, name) is None:
            kind = type(model).__name__
            raise FieldError(f"{kind} needs {name}; got None. Training fills it in from the data, or set it yourself.")
