"""Deformable DETR's set loss. Sources: Zhu et al. 2021, appendix A.4; Lin et al. 2017 (focal loss), equation 5."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from vitjax.detection.loss import Loss, paired, per_object
from vitjax.detection.matcher import FocalCost
from vitjax.structs import Mean, Targets


@dataclasses.dataclass(frozen=True)
class FocalSetLoss(Loss):
    """Deformable DETR's: focal loss over all queries and classes, L1 and generalised IoU over matched pairs.

    All three are divided by the number of objects; of a set whose assignment is given, by that of its pairs.
    """

    scores: ClassVar[str] = "sigmoid"

    classification: float = 2.0
    """Weight of the focal loss."""
    alpha: float = 0.25
    """Weight of what is there inside the focal loss; what is not has one minus that."""
    gamma: float = 2.0
    """How much less the loss cares about what is nearly right already."""
    cost: FocalCost = dataclasses.field(default_factory=FocalCost)
    """Weights of the matching."""

    def of_classes(self, logits: Array, counts: Array | None, targets: Targets, queries: Array) -> Mean:
        """The focal loss of every class of every query, divided by the number of objects."""
        places = jnp.where(paired(targets, queries), queries, logits.shape[1])
        wanted = jax.vmap(lambda row, at, labels: row.at[at, labels].set(1.0, mode="drop"))(
            jnp.zeros_like(logits), places, targets.labels
        )
        focal = sigmoid_focal(logits, wanted, self.alpha, self.gamma)
        focal = focal if counts is None else jnp.where(counts[..., None], focal, 0)
        if self.class_weights is not None:
            focal = focal * jnp.asarray(self.class_weights, jnp.float32)
        return per_object(self.sum_of_classes(focal), targets)

    def sum_of_classes(self, focal: Float[Array, "batch queries classes"]) -> Float[Array, ""]:
        """How the focal losses are added up."""
        # In two steps, which the division keeps apart: one sum over all of them rounds ten times as badly on CPUs.
        return focal.mean(-1).sum() * focal.shape[-1]


def sigmoid_focal(
    logits: Float[Array, "*shape"], wanted: Float[Array, "*shape"], alpha: float, gamma: float
) -> Float[Array, "*shape"]:
    """-alpha_t (1 - p_t)^gamma log p_t of every class by itself; `wanted` is 1 for what is there, else 0."""
    probability = jax.nn.sigmoid(logits)
    entropy = jax.nn.softplus(logits) - logits * wanted
    missing = jnp.maximum(probability + wanted - 2 * probability * wanted, 1e-12)  # a power of 0 may have no gradient
    return (alpha * wanted + (1 - alpha) * (1 - wanted)) * missing**gamma * entropy
