"""DETR's set loss, as sums and counts that are divided once. Source: Carion et al. 2020, section 3.1, equation 2."""

import dataclasses

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array
from jaxtyping import Float

from vitjax.detection.matcher import SoftmaxCost
from vitjax.ops.boxes import generalized_iou, xyxy_from_cxcywh
from vitjax.structs import Assignment, Predictions, Targets


@struct.dataclass
class Mean:
    """A sum and what it is to be divided by, per decoder layer: means over devices or micro-batches stay exact."""

    total: Float[Array, "*layers"]
    count: Float[Array, "*layers"]

    @property
    def value(self) -> Float[Array, "*layers"]:
        """The mean; NaN where nothing was counted."""
        return self.total / self.count


Terms = dict[str, Mean]


@dataclasses.dataclass(frozen=True)
class SetLoss:
    """Weighted cross entropy over all queries, L1 and generalised IoU over matched pairs, the same for every layer."""

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
        valid = targets.valid
        background = logits.shape[-1] - 1
        places = jnp.where(valid, queries, logits.shape[1])
        wanted = jnp.full(logits.shape[:2], background)
        wanted = jax.vmap(lambda row, at, labels: row.at[at].set(labels, mode="drop"))(wanted, places, targets.labels)
        nothing = wanted == background
        surprise = -jnp.take_along_axis(jax.nn.log_softmax(logits), wanted[..., None], axis=-1)[..., 0]
        # Counted, not summed up: hundreds of weights of 0.1 add up with a bias of many float32 roundings.
        found = (~nothing).sum(dtype=jnp.float32) + self.no_object * nothing.sum(dtype=jnp.float32)
        surprises = jnp.where(nothing, 0, surprise).sum() + self.no_object * jnp.where(nothing, surprise, 0).sum()

        matched = jnp.take_along_axis(boxes, queries[..., None], axis=1)
        distance = jnp.abs(matched - targets.boxes).sum(-1)
        overlap = generalized_iou(xyxy_from_cxcywh(matched), xyxy_from_cxcywh(targets.boxes))
        objects = valid.sum(dtype=jnp.float32)
        at_least_one = jnp.maximum(objects, 1.0)

        best = logits.argmax(-1)
        wrong = valid & (jnp.take_along_axis(logits, queries[..., None], axis=1).argmax(-1) != targets.labels)
        miscounted = jnp.abs((best != background).sum(-1) - valid.sum(-1))
        return {
            "class": Mean(surprises, found),
            "box": Mean(jnp.where(valid, distance, 0).sum(), at_least_one),
            "giou": Mean(jnp.where(valid, 1 - overlap, 0).sum(), at_least_one),
            "class_error": Mean(100 * wrong.sum(dtype=jnp.float32), objects),
            "cardinality_error": Mean(miscounted.sum(dtype=jnp.float32), jnp.float32(len(miscounted))),
        }

    def total(self, terms: Terms) -> Float[Array, ""]:
        """The weighted sum over terms and layers that is minimised."""
        weights = {"class": self.classification, "box": self.box, "giou": self.giou}
        return sum((weight * terms[name].value.sum() for name, weight in weights.items()), jnp.float32(0))
