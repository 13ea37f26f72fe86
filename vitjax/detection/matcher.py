"""Bipartite matching of predictions and objects, inside jit. Source: Carion et al. 2020, section 3.1, equation 1."""

import dataclasses

import jax
import jax.numpy as jnp
import optax
from jax import Array, lax
from jaxtyping import Bool, Float, Int

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
        distance = jnp.abs(boxes[:, None] - target_boxes).sum(-1)
        overlap = generalized_iou(xyxy_from_cxcywh(boxes)[:, None], xyxy_from_cxcywh(target_boxes))
        return self.box * distance - self.classification * probability - self.giou * overlap


def assign(cost: Float[Array, "queries objects"], valid: Bool[Array, " objects"]) -> Int[Array, " objects"]:
    """The query of each valid object in the cheapest matching; needs at least as many queries as objects.

    Padded objects cost nothing anywhere, so they take what is left and do not change the others. A cost that is not
    finite counts as very expensive: the loss will not be finite either and training stops there, not here.
    """
    cost = jnp.where(valid, jnp.nan_to_num(cost, nan=1e6, posinf=1e6, neginf=-1e6), 0)
    queries, objects = optax.assignment.hungarian_algorithm(cost)
    return jnp.zeros(cost.shape[1], jnp.int32).at[objects].set(queries.astype(jnp.int32))


def match(cost: SoftmaxCost, predictions: Predictions, targets: Targets) -> Assignment:
    """The cheapest assignment for every layer and image at once; no gradient flows through it.

    Raises:
        ValueError: there are fewer queries than places for objects.
    """
    queries, objects = predictions.logits.shape[2], targets.labels.shape[1]
    if queries < objects:
        raise ValueError(
            f"the model has {queries} queries and the data up to {objects} objects in an image; "
            f"set num_queries to at least {objects}."
        )
    if objects == 0:
        return Assignment(jnp.zeros((*predictions.logits.shape[:2], 0), jnp.int32))
    predictions = lax.stop_gradient(predictions)

    def one(logits: Array, boxes: Array, target: Targets) -> Array:
        return assign(cost(logits, boxes, target.boxes, target.labels), target.valid)

    images = jax.vmap(one)
    layers = jax.vmap(images, in_axes=(0, 0, None))
    return Assignment(layers(predictions.logits, predictions.boxes, targets))
