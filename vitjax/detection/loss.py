"""DETR's set loss, as sums and counts that are divided once. Source: Carion et al. 2020, section 3.1, equation 2."""

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float, Int

from vitjax.detection.matcher import SoftmaxCost, as_one_class
from vitjax.ops.boxes import generalized_iou, xyxy_from_cxcywh
from vitjax.structs import ANSWER, LOGGED, Assignment, Mean, Predictions, PredictionSet, Targets, Terms

LayerTerms = Callable[[Array, Array, Array | None, Targets, Array], Terms]
"""Terms of one layer: of logits, boxes, which queries count, targets, and the query of each object."""


@dataclasses.dataclass(frozen=True)
class Loss(ABC):
    """The weighted sum of a loss of classes over all queries, and L1 and generalised IoU over matched pairs.

    Every layer of every set has all three.
    """

    task: ClassVar[str] = "detection"
    scores: ClassVar[str]
    epsilon: ClassVar[float] = 0.0
    """Added to both denominators of the generalised IoU."""

    classification: float = 1.0
    """Weight of the loss of classes."""
    box: float = 5.0
    """Weight of the L1 distance of matched boxes."""
    giou: float = 2.0
    """Weight of one minus the generalised IoU of matched boxes."""
    class_weights: tuple[float, ...] | None = dataclasses.field(default=None, kw_only=True)
    """What the loss of classes is multiplied with for each class, in the order of their labels; boxes, matching and the
    proposals of a two-stage model, which tell no classes apart, have none. None: all alike."""

    @staticmethod
    def sum(x: Float[Array, "batch objects"]) -> Float[Array, ""]:
        """How the terms of boxes are added up."""
        return x.sum()

    @abstractmethod
    def of_classes(self, logits: Array, counts: Array | None, targets: Targets, queries: Array) -> Mean:
        """The loss of classes of one layer; `counts` tells the queries that count, None is all of them."""

    def __call__(self, predictions: Predictions, targets: Targets, assignment: Assignment) -> Terms:
        """The terms `class`, `box` and `giou` of every set, and those for the log, as `terms_of_sets` names them."""
        plain = self if self.class_weights is None else dataclasses.replace(self, class_weights=None)
        return terms_of_sets(self._layer, predictions, targets, assignment, one_class=plain._layer)

    def _layer(self, logits: Array, boxes: Array, counts: Array | None, targets: Targets, queries: Array) -> Terms:
        return {
            "class": self.of_classes(logits, counts, targets, queries),
            **box_terms(boxes, targets, queries, self.epsilon, self.sum),
            **class_counts(logits, targets, queries),
        }

    def total(self, terms: Terms) -> Float[Array, ""]:
        """The weighted sum over terms, layers and sets that is minimised."""
        return weighted_sum(terms, {"class": self.classification, "box": self.box, "giou": self.giou})


@dataclasses.dataclass(frozen=True)
class SetLoss(Loss):
    """DETR's: weighted cross entropy over all queries, L1 and generalised IoU over matched pairs, in every layer."""

    scores: ClassVar[str] = "softmax"

    classification: float = 1.0
    """Weight of the cross entropy."""
    no_object: float = 0.1
    """Weight of the class 'no object' inside the cross entropy."""
    cost: SoftmaxCost = dataclasses.field(default_factory=SoftmaxCost)
    """Weights of the matching."""

    def of_classes(self, logits: Array, counts: Array | None, targets: Targets, queries: Array) -> Mean:
        """The cross entropy of every query with its object's class, or with 'no object', which is the last one."""
        background = logits.shape[-1] - 1
        wanted = jnp.full(logits.shape[:2], background)
        places = jnp.where(paired(targets, queries), queries, logits.shape[1])
        wanted = jax.vmap(lambda row, at, labels: row.at[at].set(labels, mode="drop"))(wanted, places, targets.labels)
        something, nothing = wanted != background, wanted == background
        if counts is not None:
            something, nothing = something & counts, nothing & counts
        surprise = -jnp.take_along_axis(jax.nn.log_softmax(logits), wanted[..., None], axis=-1)[..., 0]
        if self.class_weights is not None:
            surprise = surprise * jnp.asarray((*self.class_weights, 1.0), jnp.float32)[wanted]
        surprises = jnp.where(something, surprise, 0).sum() + self.no_object * jnp.where(nothing, surprise, 0).sum()
        # From the targets alone, so that it is known before the matching. Hundreds of weights of 0.1 would add up with
        # a bias of many float32 roundings.
        queries_of_each = logits.shape[1] if counts is None else counts.sum(1)
        matched = jnp.minimum(targets.valid.sum(1), queries_of_each)
        left = (queries_of_each - matched).sum(dtype=jnp.float32)
        weighed = matched.sum(dtype=jnp.float32)
        if self.class_weights is not None:  # of more objects than queries, those that are left out count as the others
            objects = targets.valid.sum(1)
            weights = jnp.where(targets.valid, jnp.asarray(self.class_weights, jnp.float32)[targets.labels], 0).sum(1)
            weighed = (weights * matched / jnp.maximum(objects, 1)).sum()
        return Mean(surprises, weighed + self.no_object * left)


@jax.named_scope("loss")
def terms_of_sets(
    layer: LayerTerms, predictions: Predictions, targets: Targets, assignment: Assignment, *, one_class: LayerTerms
) -> Terms:
    """The terms of every layer of every set: by their own names for the answer's, after its name for another set's.

    For the log there are `class_error` (percent) and `cardinality_error`, and `unmatched`, the objects of an image that
    no query is left for, where that can be. Of other sets only those are kept that can say something.
    """
    terms: Terms = {}
    for name, one in predictions.sets.items():
        if one.rule == "given":
            found = _given_terms(layer, one, targets)
        else:
            wanted = one_class if one.rule == "one class" else layer
            found = _matched_terms(wanted, one, targets, assignment.queries[name])
        if name == ANSWER:
            terms |= found
            if one.valid is not None or targets.labels.shape[1] > one.logits.shape[2]:
                terms["unmatched"] = _unmatched(targets, assignment.queries[name])
        else:
            silent = LOGGED if one.rule == "given" else ("class_error",)
            terms |= {f"{name}_{term}": mean for term, mean in found.items() if term not in silent}
    return terms


def _matched_terms(layer: LayerTerms, one: PredictionSet, targets: Targets, queries: Array) -> Terms:
    wanted = as_one_class(targets) if one.rule == "one class" else targets
    return jax.vmap(layer, in_axes=(0, 0, 0, None, 0))(one.logits, one.boxes, one.valid, wanted, queries)


def _given_terms(layer: LayerTerms, one: PredictionSet, targets: Targets) -> Terms:
    if one.objects is None:
        raise ValueError("predictions with the rule 'given' need objects, the object of each query; got None.")
    # Every query is an object's place of its own, which holds the object that is given to it.
    objects = one.objects if one.valid is None else jnp.where(one.valid, one.objects, -1)
    each = jax.vmap(objects_of_queries, in_axes=(None, 0))(targets, objects)
    queries = jnp.broadcast_to(jnp.arange(objects.shape[-1]), objects.shape)
    return jax.vmap(layer)(one.logits, one.boxes, one.valid, each, queries)


def objects_of_queries(targets: Targets, objects: Int[Array, "batch queries"]) -> Targets:
    """The object of each query, not valid where that is none (-1)."""
    valid = objects >= 0
    if targets.labels.shape[1] == 0:
        return Targets(jnp.zeros((*objects.shape, 4)), jnp.zeros_like(objects), jnp.zeros_like(valid))
    place = jnp.maximum(objects, 0)
    boxes = jnp.take_along_axis(targets.boxes, place[..., None], axis=1)
    labels, real = (jnp.take_along_axis(x, place, axis=1) for x in (targets.labels, targets.valid))
    return Targets(boxes, labels, valid & real)


def paired(targets: Targets, queries: Int[Array, "batch objects"]) -> Bool[Array, "batch objects"]:
    """Which objects are there and have a query."""
    return targets.valid & (queries >= 0)


def box_terms(
    boxes: Float[Array, "batch queries 4"],
    targets: Targets,
    queries: Int[Array, "batch objects"],
    epsilon: float = 0.0,
    add: Callable[[Array], Array] = jnp.sum,
) -> dict[str, Mean]:
    """`box` and `giou`: L1 distance and one minus generalised IoU of matched boxes, per object."""
    matched = jnp.take_along_axis(boxes, jnp.maximum(queries, 0)[..., None], axis=1)
    distance = jnp.abs(matched - targets.boxes).sum(-1)
    overlap = generalized_iou(xyxy_from_cxcywh(matched), xyxy_from_cxcywh(targets.boxes), epsilon)
    pairs = paired(targets, queries)
    return {
        "box": per_object(add(jnp.where(pairs, distance, 0)), targets),
        "giou": per_object(add(jnp.where(pairs, 1 - overlap, 0)), targets),
    }


def class_counts(
    logits: Float[Array, "batch queries classes"], targets: Targets, queries: Int[Array, "batch objects"]
) -> dict[str, Mean]:
    """For the log: `class_error` of matched queries in percent, and `cardinality_error`.

    The latter is the difference between the objects of an image and the queries whose best class is not the last one;
    it says something only where that is 'no object'.
    """
    pairs = paired(targets, queries)
    chosen = jnp.take_along_axis(logits, jnp.maximum(queries, 0)[..., None], axis=1)
    wrong = pairs & (chosen.argmax(-1) != targets.labels)
    miscounted = jnp.abs((logits.argmax(-1) != logits.shape[-1] - 1).sum(-1) - targets.valid.sum(-1))
    return {
        "class_error": Mean(100 * wrong.sum(dtype=jnp.float32), pairs.sum(dtype=jnp.float32)),
        "cardinality_error": Mean(miscounted.sum(dtype=jnp.float32), jnp.float32(len(miscounted))),
    }


def _unmatched(targets: Targets, queries: Int[Array, "layers batch objects"]) -> Mean:
    left = (targets.valid & (queries < 0)).sum((1, 2), dtype=jnp.float32)
    return Mean(left, jnp.full_like(left, queries.shape[1]))


def per_object(total: Float[Array, "*layers"], targets: Targets) -> Mean:
    """A sum over the objects of the batch, to be divided by how many there are, or by 1 if there are none."""
    count = targets.valid.sum(dtype=jnp.float32)
    return Mean(total, jnp.broadcast_to(count, jnp.shape(total)), least=1.0)


def weighted_sum(terms: Terms, weights: dict[str, float]) -> Float[Array, ""]:
    """The sum over layers, sets and the terms that have a weight, times it."""
    weighted = [name for name in terms if name.rpartition("_")[2] in weights]
    sets = sorted({name.rpartition("_")[0] for name in weighted})
    named = ((weight, f"{prefix}_{name}".removeprefix("_")) for prefix in sets for name, weight in weights.items())
    return sum((weight * terms[name].value.sum() for weight, name in named), jnp.float32(0))
