"""DETR's set loss, as sums and counts that are divided once. Source: Carion et al. 2020, section 3.1, equation 2."""

import dataclasses
from typing import ClassVar, Protocol

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Int

from vitjax.detection.matcher import Cost, SoftmaxCost
from vitjax.ops.boxes import generalized_iou, xyxy_from_cxcywh
from vitjax.structs import Assignment, Mean, Predictions, Targets, Terms


class Loss(Protocol):
    """What training minimises: terms of predictions matched by `cost`, and their weighted sum."""

    @property
    def cost(self) -> Cost:
        """The price of giving an object to a query."""
        ...

    def __call__(self, predictions: Predictions, targets: Targets, assignment: Assignment) -> Terms:
        """Every term, per decoder layer."""
        ...

    def total(self, terms: Terms) -> Float[Array, ""]:
        """The scalar that is minimised."""
        ...


@dataclasses.dataclass(frozen=True)
class SetLoss:
    """DETR's: weighted cross entropy over all queries, L1 and generalised IoU over matched pairs, in every layer."""

    task: ClassVar[str] = "detection"
    scores: ClassVar[str] = "softmax"

    classification: float = 1.0
    """Weight of the cross entropy."""
    box: float = 5.0
    """Weight of the L1 distance of matched boxes."""
    giou: float = 2.0
    """Weight of one minus the generalised IoU of matched boxes."""
    no_object: float = 0.1
    """Weight of the class 'no object' inside the cross entropy."""
    cost: SoftmaxCost = dataclasses.field(default_factory=SoftmaxCost)
    """Weights of the matching."""

    def __call__(self, predictions: Predictions, targets: Targets, assignment: Assignment) -> Terms:
        """The terms `class`, `box` and `giou`, and the log-only `class_error` (percent) and `cardinality_error`."""
        layer = jax.vmap(self._layer, in_axes=(0, 0, None, 0))
        return layer(predictions.logits, predictions.boxes, targets, assignment.queries)

    def _layer(self, logits: Array, boxes: Array, targets: Targets, queries: Array) -> Terms:
        background = logits.shape[-1] - 1
        wanted = jnp.full(logits.shape[:2], background)
        places = jnp.where(targets.valid, queries, logits.shape[1])
        wanted = jax.vmap(lambda row, at, labels: row.at[at].set(labels, mode="drop"))(wanted, places, targets.labels)
        nothing = wanted == background
        surprise = -jnp.take_along_axis(jax.nn.log_softmax(logits), wanted[..., None], axis=-1)[..., 0]
        # Counted, not summed up: hundreds of weights of 0.1 add up with a bias of many float32 roundings.
        found = (~nothing).sum(dtype=jnp.float32) + self.no_object * nothing.sum(dtype=jnp.float32)
        surprises = jnp.where(nothing, 0, surprise).sum() + self.no_object * jnp.where(nothing, surprise, 0).sum()
        return {
            "class": Mean(surprises, found),
            **box_terms(boxes, targets, queries),
            **class_counts(logits, targets, queries),
        }

    def total(self, terms: Terms) -> Float[Array, ""]:
        """The weighted sum over terms and layers that is minimised."""
        return weighted_sum(terms, {"class": self.classification, "box": self.box, "giou": self.giou})


def box_terms(
    boxes: Float[Array, "batch queries 4"], targets: Targets, queries: Int[Array, "batch objects"]
) -> dict[str, Mean]:
    """`box` and `giou`: L1 distance and one minus generalised IoU of matched boxes, per object."""
    matched = jnp.take_along_axis(boxes, queries[..., None], axis=1)
    distance = jnp.abs(matched - targets.boxes).sum(-1)
    overlap = generalized_iou(xyxy_from_cxcywh(matched), xyxy_from_cxcywh(targets.boxes))
    at_least_one = at_least_one_object(targets)
    return {
        "box": Mean(jnp.where(targets.valid, distance, 0).sum(), at_least_one),
        "giou": Mean(jnp.where(targets.valid, 1 - overlap, 0).sum(), at_least_one),
    }


def class_counts(
    logits: Float[Array, "batch queries classes"], targets: Targets, queries: Int[Array, "batch objects"]
) -> dict[str, Mean]:
    """For the log: `class_error` of matched queries in percent, and `cardinality_error`.

    The latter is the difference between the objects of an image and the queries whose best class is not the last one;
    it says something only where that is 'no object'.
    """
    chosen = jnp.take_along_axis(logits, queries[..., None], axis=1)
    wrong = targets.valid & (chosen.argmax(-1) != targets.labels)
    miscounted = jnp.abs((logits.argmax(-1) != logits.shape[-1] - 1).sum(-1) - targets.valid.sum(-1))
    return {
        "class_error": Mean(100 * wrong.sum(dtype=jnp.float32), targets.valid.sum(dtype=jnp.float32)),
        "cardinality_error": Mean(miscounted.sum(dtype=jnp.float32), jnp.float32(len(miscounted))),
    }


def at_least_one_object(targets: Targets) -> Float[Array, ""]:
    """The number of objects in the batch, or 1 if there are none."""
    return jnp.maximum(targets.valid.sum(dtype=jnp.float32), 1.0)


def weighted_sum(terms: Terms, weights: dict[str, float]) -> Float[Array, ""]:
    """The sum over layers and over the terms that have a weight, times it."""
    return sum((weight * terms[name].value.sum() for name, weight in weights.items()), jnp.float32(0))
