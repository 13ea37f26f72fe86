"""Bipartite matching of predictions and objects, inside jit. Source: Carion et al. 2020, section 3.1, equation 1."""

import dataclasses
from abc import ABC, abstractmethod
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Bool, Float, Int

from vitjax.ops.assignment import linear_assignment
from vitjax.ops.boxes import generalized_iou, xyxy_from_cxcywh
from vitjax.structs import Assignment, Predictions, PredictionSet, Targets


@dataclasses.dataclass(frozen=True)
class Cost(ABC):
    """Price of giving an object to a query: minus what its class is worth, L1 distance, minus generalised IoU."""

    epsilon: ClassVar[float] = 0.0
    """Added to both denominators of the generalised IoU."""

    classification: float = 1.0
    """Weight of the class."""
    box: float = 5.0
    """Weight of the L1 distance of the cxcywh boxes."""
    giou: float = 2.0
    """Weight of the generalised IoU."""

    @abstractmethod
    def worth(self, logits: Float[Array, "queries classes"]) -> Float[Array, "queries classes"]:
        """What every class is worth to a query that is given an object of it, from float32 logits."""

    def __call__(
        self,
        logits: Float[Array, "queries classes"],
        boxes: Float[Array, "queries 4"],
        target_boxes: Float[Array, "objects 4"],
        labels: Int[Array, " objects"],
    ) -> Float[Array, "queries objects"]:
        """The cost of every pair, in float32."""
        worth = self.worth(logits.astype(jnp.float32))[:, labels]
        distance = jnp.abs(boxes[:, None] - target_boxes).sum(-1)
        overlap = generalized_iou(xyxy_from_cxcywh(boxes)[:, None], xyxy_from_cxcywh(target_boxes), self.epsilon)
        return self.box * distance - self.giou * overlap - self.classification * worth


@dataclasses.dataclass(frozen=True)
class SoftmaxCost(Cost):
    """The cost in which a class is worth its probability."""

    classification: float = 1.0
    """Weight of the class probability."""

    def worth(self, logits: Float[Array, "queries classes"]) -> Float[Array, "queries classes"]:
        """The probabilities."""
        return jax.nn.softmax(logits, axis=-1)


@dataclasses.dataclass(frozen=True)
class FocalCost(Cost):
    """The cost in which a class is worth the focal loss that it saves: that of 'not there' minus that of 'there'.

    Source: Zhu et al. 2021, appendix A.4 and its code.
    """

    classification: float = 2.0
    """Weight of the difference between the focal losses of 'there' and 'not there'."""
    alpha: float = 0.25
    """As in the focal loss."""
    gamma: float = 2.0
    """As in the focal loss."""

    def worth(self, logits: Float[Array, "queries classes"]) -> Float[Array, "queries classes"]:
        """The focal loss of 'not there' minus that of 'there'."""
        p = jax.nn.sigmoid(logits)
        there = self.alpha * (1 - p) ** self.gamma * -jnp.log(p + 1e-8)
        not_there = (1 - self.alpha) * p**self.gamma * -jnp.log(1 - p + 1e-8)
        return not_there - there


NEVER = 1e9  # a price that nothing is worth; the solver wants finite ones
DEAR = 1e6  # the most that a pair costs: of larger prices float32 sums would lose the others, or overflow


def assign(
    cost: Float[Array, "queries objects"], valid: Bool[Array, " objects"], counts: Bool[Array, " queries"] | None = None
) -> Int[Array, " objects"]:
    """The query of each valid object in the cheapest matching of as many as there are queries; -1 for the others.

    `counts` tells the queries that may be taken, None is all of them. A cost that is not finite counts as very
    expensive: the loss will not be finite either and training stops there, not here. Nothing counts for more than that.
    """
    queries, objects = cost.shape
    prices = jnp.clip(jnp.nan_to_num(cost, nan=DEAR), -DEAR, DEAR).T
    valid_first = jnp.argsort(~valid)
    if counts is not None or objects > queries:
        counts = jnp.ones(queries, bool) if counts is None else counts
        counts = jnp.pad(counts, (0, max(objects - queries, 0)))
        # What goes without takes a stand-in. There are as many of these as needed and all cost the same, so that they
        # change nothing of the rest.
        left_over = jnp.maximum(valid.sum() - counts.sum(), 0)
        stand_in = ~counts & (jnp.cumsum(~counts) <= left_over)
        prices = jnp.pad(prices, ((0, 0), (0, len(counts) - queries)))
        prices = jnp.where(counts, prices, jnp.where(stand_in, 0, NEVER))
    found = linear_assignment(prices[valid_first], valid.sum())
    found = found if counts is None else jnp.where(counts[found], found, -1)
    return jnp.zeros_like(found).at[valid_first].set(found)


@jax.named_scope("matching")
def match(cost: Cost, predictions: Predictions, targets: Targets) -> Assignment:
    """The cheapest assignment for every set, layer and image at once; no gradient flows through it.

    Sets whose assignment is given are left out.
    """
    matched = {name: one for name, one in predictions.sets.items() if one.rule != "given"}
    return Assignment({name: _match(cost, one, targets) for name, one in matched.items()})


def _match(cost: Cost, predictions: PredictionSet, targets: Targets) -> Int[Array, "layers batch objects"]:
    if targets.labels.shape[1] == 0:
        return jnp.zeros((*predictions.logits.shape[:2], 0), jnp.int32)
    logits, boxes = lax.stop_gradient((predictions.logits, predictions.boxes))
    if predictions.rule == "one class":
        logits, targets = logits[..., :1], as_one_class(targets)

    def one(logits: Array, boxes: Array, counts: Array | None, target: Targets) -> Array:
        return assign(cost(logits, boxes, target.boxes, target.labels), target.valid, counts)

    layers = jax.vmap(jax.vmap(one), in_axes=(0, 0, 0, None))
    return layers(logits, boxes, predictions.valid, targets)


def as_one_class(targets: Targets) -> Targets:
    """The targets with every object as class 0."""
    return dataclasses.replace(targets, labels=jnp.zeros_like(targets.labels))
