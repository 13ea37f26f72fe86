"""Bipartite matching of predictions and objects, inside jit. Source: Carion et al. 2020, section 3.1, equation 1."""

import dataclasses

import jax
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Bool, Float, Int

from vitjax.errors import FieldError
from vitjax.ops.assignment import linear_assignment
from vitjax.ops.boxes import generalized_iou, xyxy_from_cxcywh
from vitjax.structs import Assignment, Predictions, Targets


@dataclasses.dataclass(frozen=True)
class SoftmaxCost:
    """Price of giving an object to a query: minus its probability, L1 distance of the boxes, minus generalised IoU."""

    classification: float = 1.0
    """Weight of the class probability."""
    box: float = 5.0
    """Weight of the L1 distance of the cxcywh boxes."""
    giou: float = 2.0
    """Weight of the generalised IoU."""

    def __call__(
        self,
        logits: Float[Array, "queries classes"],
        boxes: Float[Array, "queries 4"],
        target_boxes: Float[Array, "objects 4"],
        labels: Int[Array, " objects"],
    ) -> Float[Array, "queries objects"]:
        """The cost of every pair, in float32."""
        probability = jax.nn.softmax(logits.astype(jnp.float32), axis=-1)[:, labels]
        return _box_cost(boxes, target_boxes, self.box, self.giou) - self.classification * probability


@dataclasses.dataclass(frozen=True)
class FocalCost:
    """Price of giving an object to a query: the focal loss it saves, L1 distance of the boxes, minus generalised IoU.

    Source: Zhu et al. 2021, appendix A.4 and its code.
    """

    classification: float = 2.0
    """Weight of the difference between the focal losses of 'there' and 'not there'."""
    box: float = 5.0
    """Weight of the L1 distance of the cxcywh boxes."""
    giou: float = 2.0
    """Weight of the generalised IoU."""
    alpha: float = 0.25
    """As in the focal loss."""
    gamma: float = 2.0
    """As in the focal loss."""

    def __call__(
        self,
        logits: Float[Array, "queries classes"],
        boxes: Float[Array, "queries 4"],
        target_boxes: Float[Array, "objects 4"],
        labels: Int[Array, " objects"],
    ) -> Float[Array, "queries objects"]:
        """The cost of every pair, in float32."""
        p = jax.nn.sigmoid(logits.astype(jnp.float32))
        there = self.alpha * (1 - p) ** self.gamma * -jnp.log(p + 1e-8)
        not_there = (1 - self.alpha) * p**self.gamma * -jnp.log(1 - p + 1e-8)
        saved = (not_there - there)[:, labels]
        return _box_cost(boxes, target_boxes, self.box, self.giou) - self.classification * saved


Cost = SoftmaxCost | FocalCost


def _box_cost(boxes: Array, target_boxes: Array, box: float, giou: float) -> Array:
    distance = jnp.abs(boxes[:, None] - target_boxes).sum(-1)
    overlap = generalized_iou(xyxy_from_cxcywh(boxes)[:, None], xyxy_from_cxcywh(target_boxes))
    return box * distance - giou * overlap


def assign(cost: Float[Array, "queries objects"], valid: Bool[Array, " objects"]) -> Int[Array, " objects"]:
    """The query of each valid object in the cheapest matching; needs at least as many queries as objects.

    A cost that is not finite counts as very expensive: the loss will not be finite either and training stops there,
    not here.
    """
    prices = jnp.nan_to_num(cost, nan=1e6, posinf=1e6, neginf=-1e6).T
    valid_first = jnp.argsort(~valid)
    queries = linear_assignment(prices[valid_first], valid.sum())
    return jnp.zeros_like(queries).at[valid_first].set(queries)


def match(cost: Cost, predictions: Predictions, targets: Targets) -> Assignment:
    """The cheapest assignment for every layer and image at once; no gradient flows through it.

    Proposals, where there are any, are matched as class 0, whatever the label.

    Raises:
        FieldError: there are fewer queries than places for objects.
    """
    queries = _match(cost, predictions, targets)
    if predictions.proposals is None:
        return Assignment(queries)
    objects = dataclasses.replace(targets, labels=jnp.zeros_like(targets.labels))
    proposals = dataclasses.replace(predictions.proposals, logits=predictions.proposals.logits[..., :1])
    return Assignment(queries, _match(cost, proposals, objects))


def _match(cost: Cost, predictions: Predictions, targets: Targets) -> Int[Array, "layers batch objects"]:
    queries, objects = predictions.logits.shape[2], targets.labels.shape[1]
    if queries < objects:
        raise FieldError(
            f"the model has {queries} queries and the data up to {objects} objects in an image; set num_queries to at "
            f"least {objects}; in a two-stage model, whose queries are tokens, images must be large enough, too."
        )
    if objects == 0:
        return jnp.zeros((*predictions.logits.shape[:2], 0), jnp.int32)
    predictions = lax.stop_gradient(predictions)

    def one(logits: Array, boxes: Array, counts: Array | None, target: Targets) -> Array:
        prices = cost(logits, boxes, target.boxes, target.labels)
        prices = prices if counts is None else jnp.where(counts[:, None], prices, jnp.inf)
        return assign(prices, target.valid)

    images = jax.vmap(one)
    layers = jax.vmap(images, in_axes=(0, 0, 0, None))
    return layers(predictions.logits, predictions.boxes, predictions.valid, targets)
