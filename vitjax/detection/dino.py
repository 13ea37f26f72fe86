"""DINO: a deformable detector that chooses where to look, and learns from noise, too. Source: Zhang et al. 2022."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, ClassVar, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct
from jax import Array, lax
from jax.typing import DTypeLike
from jaxtyping import Bool, Float

from vitjax.attention.multi_head import Pairs
from vitjax.backbones.resnet import ResNet
from vitjax.detection.deformable_decoder import DeformableDecoder
from vitjax.detection.deformable_detr import NOTHING, PRIOR, require_fitted
from vitjax.detection.deformable_encoder import Memory
from vitjax.detection.denoising import Noise, Slots, draw_noise, pairs_of, slots_of, with_noise
from vitjax.detection.levels import encode, keep, sizes_of
from vitjax.detection.proposals import QueriesValid, proposing
from vitjax.detection.transformer import Queries
from vitjax.errors import FieldError
from vitjax.layers.feed_forward import Perceptron
from vitjax.layers.linear import Dense
from vitjax.ops.boxes import inverse_sigmoid
from vitjax.ops.initializers import torch_bias, torch_kernel
from vitjax.ops.positions import sine_of_boxes
from vitjax.structs import ANSWER, Images, Inner, Padding, Predictions, PredictionSet, Targets

EPSILON = 1e-3  # how near to 0 and 1 a reference may come: logits are within 6.9
TEMPERATURE = 20.0  # of the sine embedding of the levels

Boxes = Float[Array, "batch queries 4"]


@struct.dataclass
class Start:
    """What the decoder starts from: contents and cxcywh boxes of queries, which are valid, and who may see whom."""

    content: Queries
    reference: Boxes
    valid: QueriesValid = None
    pairs: Pairs | None = None


class DINO(nn.Module):
    """Backbone, deformable transformer over several levels, heads; sigmoid scores, so there is no class 'no object'.

    The best proposals of the encoder are where the queries begin; what they ask for is learned (mixed query selection).
    In training objects with noise are further queries, if the targets are given. The defaults are the published model
    of four scales; `levels=5, backbone_levels=4` is that of five. Inner tensors are sown as those of a DeformableDETR.
    """

    task: ClassVar[str] = "detection"
    family: ClassVar[str] = "dino"
    scores: ClassVar[str] = "sigmoid"
    takes_targets: ClassVar[bool] = True

    backbone: nn.Module = dataclasses.field(default_factory=ResNet)
    """What turns the image into feature maps."""
    num_classes: int | None = None
    """Number of class labels; None takes it from the data."""
    num_queries: int | None = 900
    """Most objects that can be found in one image; None takes a number that suits the data."""
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
    dropout: float = 0.0
    """Dropout rate."""
    levels: int = 4
    """Feature maps that the transformer sees; those beyond the backbone's are made by convolutions of stride 2."""
    backbone_levels: int = 3
    """How many of them are the backbone's, its coarsest."""
    encoder_points: int = 4
    """Points that each head samples on each level, in the encoder."""
    decoder_points: int = 4
    """Points that each head samples on each level, in the decoder."""
    mixed_selection: bool = True
    """The content of the queries is learned; else it is that of the tokens that propose, without their gradient."""
    look_forward_twice: bool = True
    """The loss of a layer's box trains the layer before, too."""
    denoising: int = 100
    """Objects with noise that the groups of an image hold in training, each both positive and negative; an image of
    more objects has one group of all. 0 is no denoising."""
    denoising_groups: int | None = None
    """Groups of every image in place of as many as `denoising` fills."""
    denoising_images: int = 2
    """Images in a row whose groups are of one size, by the one with the most objects; published as those of one GPU."""
    label_noise: float = 0.5
    """Twice the rate at which labels of denoising queries are drawn anew."""
    box_noise: float = 1.0
    """How far corners of denoising queries move, in halves of a side."""
    labels: int | None = None
    """Labels that the embedding for denoising has room for; None is as many as there are classes."""
    padding: Padding = "exact"
    """'exact': a padded image gives what it gives alone; 'reference': padding leaks as in the published code."""
    remat: bool = False
    """Compute activations of the transformer's layers anew in the backward pass: less memory, more time."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """What the transformer computes in; locations, softmax, boxes, costs and losses are float32 always."""

    def __call__(
        self, images: Images, *, train: bool, targets: Targets | None = None, noise: Noise | None = None
    ) -> Predictions:
        """Logits over classes and cxcywh boxes of every decoder layer and of the proposals, and in training of noise.

        Denoising needs `targets`, and random numbers of the name "noise" unless `noise` is given.

        Raises:
            FieldError: `num_classes` is still None, or fields contradict each other or the backbone.
        """
        return self.inner(images, train=train, targets=targets, noise=noise).predictions

    @nn.compact
    def inner(
        self, images: Images, *, train: bool, targets: Targets | None = None, noise: Noise | None = None
    ) -> Inner:
        """The predictions, with all that a head for masks needs besides.

        Raises:
            FieldError: as above.
        """
        self._check()
        encoded = encode(self, images, train=train, temperature=TEMPERATURE)
        memory = encoded.memory
        start, proposals = self._queries(memory)
        embedding = self._label_embedding()
        slots = None
        if train and targets is not None and self.denoising:
            slots = slots_of(targets.valid, self.denoising, self.denoising_groups, self.denoising_images)
            start = self._joined(slots, targets, noise, embedding, start)
        keep(self, initial_reference=start.reference)
        class_head, box_heads = class_head_of(self.num_classes or 0), [box_head_of(self.channels)] * self.decoder_layers
        among: dict[str, Any] = {"valid": start.valid, "pairs": start.pairs, "train": train}
        content, position = start.content.astype(self.dtype), self._position(memory)
        queries, boxes = self._decoder()(content, position, start.reference, memory, box_heads, **among)
        keep(self, queries=queries)
        sets = _sets(class_head(queries.astype(jnp.float32)), boxes, start.valid, slots)
        own = queries[:, :, -(self.num_queries or 0) :]  # those of denoising come first
        return Inner(Predictions({**sets, "proposal": proposals}), *encoded[1:], own)

    def _check(self) -> None:
        require_fitted(self)
        if self.labels is not None and self.labels < (self.num_classes or 0):
            raise FieldError(f"labels must be at least num_classes={self.num_classes}, or None; got {self.labels}.")
        least = {"num_queries": 1, "denoising": 0, "denoising_images": 1, "denoising_groups": 1}
        least |= {"label_noise": 0, "box_noise": 0}
        for name, number in least.items():
            value = getattr(self, name)
            if value is not None and value < number:
                raise FieldError(f"{name} must be at least {number}; got {value}.")

    def _queries(self, memory: Memory) -> tuple[Start, PredictionSet]:
        """Where the queries begin and what they ask for, and the proposals that they come from."""
        leave_out = ~memory.valid if self.padding == "exact" else None
        choose = Selection(self.num_queries or 0, self.num_classes or 0, name="proposals")
        proposals, tokens, valid = choose(memory, leave_out)
        content = lax.stop_gradient(tokens)
        if self.mixed_selection:
            xavier, shape = nn.initializers.xavier_uniform(), (self.num_queries or 0, self.channels)
            content = jnp.broadcast_to(self.param("query_embedding", xavier, shape), tokens.shape)
        return Start(content, lax.stop_gradient(proposals.boxes[0]), valid), proposals

    def _decoder(self) -> DeformableDecoder:
        return DeformableDecoder(
            self.decoder_layers,
            points=self.decoder_points,
            refine=True,
            look_forward_twice=self.look_forward_twice,
            norm=True,
            epsilon=EPSILON,
            **sizes_of(self),
            name="decoder",
        )

    def _position(self, memory: Memory) -> Callable[[Boxes], Queries]:
        """What the place of a query adds to it; in the published code boxes are those of the padded finest level."""
        locate = QueryPosition(self.channels, self.dtype, name="query_position")
        if self.padding == "exact":
            return locate
        return lambda boxes: locate(boxes * jnp.tile(memory.ratios[:, None, 0], 2))

    def _label_embedding(self) -> Float[Array, "labels channels"]:
        """What a denoising query asks for, by its label; the published code has a row more, which nothing uses."""
        shape = ((self.labels or self.num_classes or 0) + 1, self.channels)
        return jnp.asarray(self.param("label_embedding", nn.initializers.normal(1.0), shape))

    def _joined(
        self,
        slots: Slots,
        targets: Targets,
        noise: Noise | None,
        embedding: Float[Array, "labels channels"],
        own: Start,
    ) -> Start:
        """The denoising queries before the others."""
        if noise is None:
            noise = draw_noise(self.make_rng("noise"), slots.group.shape, self.num_classes or 0)
        content, logits = denoising_queries(
            targets, slots, noise, embedding, label_noise=self.label_noise, box_noise=self.box_noise
        )
        valid = None if own.valid is None else jnp.concatenate([jnp.ones_like(slots.used), own.valid], axis=1)
        return Start(
            jnp.concatenate([content, own.content], axis=1),
            jnp.concatenate([jax.nn.sigmoid(logits), own.reference], axis=1),
            valid,
            pairs_of(slots, own.content.shape[1]),
        )


class Selection(nn.Module):
    """Every token proposes a box and has heads for it; those of which any class scores best become queries.

    As with `Proposals`, `tokens`, `anchors` and `chosen` are sown; and the `scores` of all tokens.
    """

    count: int
    classes: int

    @nn.compact
    def __call__(
        self, memory: Memory, leave_out: Bool[Array, "batch tokens"] | None
    ) -> tuple[PredictionSet, Queries, QueriesValid]:
        """The best proposals, best first, with the tokens that make them, and which of them are valid.

        Those in `leave_out` are not, and those that are missing where there are fewer tokens than queries.
        """
        tokens, anchors = proposing(memory)
        class_head = class_head_of(self.classes)
        scores = class_head(tokens).max(-1)
        rank = scores if leave_out is None else jnp.where(leave_out, -jnp.inf, scores)
        missing = max(self.count - rank.shape[1], 0)
        best = jnp.pad(lax.top_k(rank, self.count - missing)[1], ((0, 0), (0, missing)))
        keep(self, tokens=tokens, anchors=anchors, chosen=best, scores=scores)
        chosen, anchors = (jnp.take_along_axis(x, best[..., None], axis=1) for x in (tokens, anchors))
        valid = None
        if leave_out is not None or missing:
            there = jnp.ones(rank.shape, bool) if leave_out is None else ~leave_out
            valid = jnp.take_along_axis(there, best, axis=1) & (jnp.arange(self.count) < self.count - missing)
        logits, boxes = class_head(chosen), jax.nn.sigmoid(box_head_of(tokens.shape[-1])(chosen) + anchors)
        counts = None if valid is None else valid[None]
        return PredictionSet(logits[None], boxes[None], counts), chosen, valid


class QueryPosition(nn.Module):
    """What the place of a query adds to it: a perceptron of the sines of its box."""

    channels: int
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, boxes: Boxes) -> Queries:
        """From cxcywh in [0, 1]."""
        x = sine_of_boxes(boxes[..., jnp.array([1, 0, 2, 3])], self.channels // 2)
        for i in range(2):
            xavier, bias = nn.initializers.xavier_uniform(), torch_bias(x.shape[-1])
            x = nn.relu(x) if i else x
            x = Dense(self.channels, dtype=self.dtype, kernel_init=xavier, bias_init=bias, name=f"layer_{i}")(x)
        return x


def class_head_of(classes: int) -> nn.Dense:
    """A class head, for a compact method; every class starts with a probability of `PRIOR`."""
    bias = nn.initializers.constant(-math.log((1 - PRIOR) / PRIOR))
    return Dense(classes, kernel_init=torch_kernel, bias_init=bias, name="class_head")


def box_head_of(channels: int) -> Perceptron:
    """A box head, for a compact method, which starts by changing nothing."""
    return Perceptron(channels, 4, start=(0.0,) * 4, name="box_head")


def denoising_queries(
    targets: Targets,
    slots: Slots,
    noise: Noise,
    embedding: Float[Array, "labels channels"],
    *,
    label_noise: float,
    box_noise: float,
) -> tuple[Float[Array, "batch slots channels"], Float[Array, "batch slots 4"]]:
    """The content of denoising queries and the logits of their boxes, zero where a slot has no object."""
    labels, boxes = with_noise(targets, slots, noise, label_noise=label_noise, box_noise=box_noise)
    there = (slots.object >= 0)[..., None]
    return jnp.where(there, embedding[labels], 0), jnp.where(there, inverse_sigmoid(boxes, EPSILON), 0)


def _sets(
    logits: Float[Array, "layers batch queries classes"],
    boxes: Float[Array, "layers batch queries 4"],
    valid: QueriesValid,
    slots: Slots | None,
) -> dict[str, PredictionSet]:
    """The answer, and what is said of the slots, which come first."""
    first = 0 if slots is None else slots.group.shape[1]
    if valid is not None:
        logits = jnp.where(valid[..., None], logits, NOTHING)
        valid = jnp.broadcast_to(valid, logits.shape[:3])[:, :, first:]
    sets = {ANSWER: PredictionSet(logits[:, :, first:], boxes[:, :, first:], valid)}
    if slots is not None:
        used, wanted = (jnp.broadcast_to(x, (len(logits), *x.shape)) for x in (slots.used, slots.wanted))
        sets["denoising"] = PredictionSet(logits[:, :, :first], boxes[:, :, :first], used, wanted, rule="given")
    return sets
