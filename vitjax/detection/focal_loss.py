"""Deformable DETR's set loss. Sources: Zhu et al. 2021, appendix A.4; Lin et al. 2017 (focal loss), equation 5."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from vitjax.detection.loss import at_least_one_object, box_terms, class_counts, paired, terms_of_sets, weighted_sum
from vitjax.detection.matcher import FocalCost
from vitjax.structs import Assignment, Mean, Predictions, Targets, Terms


@dataclasses.dataclass(frozen=True)
class FocalSetLoss:
    """Deformable DETR's: focal loss over all queries and classes, L1 and generalised IoU over matched pairs.

    All three are divided by the number of objects; of a set whose assignment is given, by that of its pairs.
    """

    task: ClassVar[str] = "detection"
    scores: ClassVar[str] = "sigmoid"

    classification: float = 2.0
    """Weight of the focal loss."""
    box: float = 5.0
    """Weight of the L1 distance of matched boxes."""
    giou: float = 2.0
    """Weight of one minus the generalised IoU of matched boxes."""
    alpha: float = 0.25
    """Weight of what is there inside the focal loss; what is not has one minus that."""
    gamma: float = 2.0
    """How much less the loss cares about what is nearly right already."""
    cost: FocalCost = dataclasses.field(default_factory=FocalCost)
    """Weights of the matching."""

    def __call__(self, predictions: Predictions, targets: Targets, assignment: Assignment) -> Terms:
        """The terms `class`, `box` and `giou` of every set, and those for the log, as `terms_of_sets` names them."""
        return terms_of_sets(self._layer, predictions, targets, assignment)

    def _layer(self, logits: Array, boxes: Array, counts: Array | None, targets: Targets, queries: Array) -> Terms:
        places = jnp.where(paired(targets, queries), queries, logits.shape[1])
        wanted = jax.vmap(lambda row, at, labels: row.at[at, labels].set(1.0, mode="drop"))(
            jnp.zeros_like(logits), places, targets.labels
        )
        focal = sigmoid_focal(logits, wanted, self.alpha, self.gamma)
        focal = focal if counts is None else jnp.where(counts[..., None], focal, 0)
        # In two steps, which the division keeps apart: one sum over all of them rounds ten times as badly on CPUs.
        total = focal.mean(-1).sum() * focal.shape[-1]
        return {
            "class": Mean(total, at_least_one_object(targets)),
            **box_terms(boxes, targets, queries),
            **class_counts(logits, targets, queries),
        }

    def total(self, terms: Terms) -> Float[Array, ""]:
        """The weighted sum over terms, layers and sets that is minimised."""
        return weighted_sum(terms, {"class": self.classification, "box": self.box, "giou": self.giou})


def sigmoid_focal(
    logits: Float[Array, "*shape"], wanted: Float[Array, "*shape"], alpha: float, gamma: float
) -> Float[Array, "*shape"]:
    """-alpha_t (1 - p_t)^gamma log p_t of every class by itself; `wanted` is 1 for what is there, else 0."""
    probability = jax.nn.sigmoid(logits)
    entropy = jax.nn.softplus(logits) - logits * wanted
    missing = jnp.maximum(probability + wanted - 2 * probability * wanted, 1e-12)  # a power of 0 may have no gradient
    return (alpha * wanted + (1 - alpha) * (1 - wanted)) * missing**gamma * entropy
