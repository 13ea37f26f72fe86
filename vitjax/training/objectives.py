"""What a training step minimises: from variables, a batch and a random key to a loss and its terms."""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
from jax import Array
from jaxtyping import Float

from vitjax.classification.erasing import Erasing
from vitjax.classification.loss import CrossEntropy
from vitjax.classification.mixing import Mixing
from vitjax.classification.policy_loss import PolicyLoss
from vitjax.detection.loss import Loss
from vitjax.ops.images import normalize, valid_pixels
from vitjax.segmentation.pixel_loss import PixelCrossEntropy
from vitjax.structs import Assignment, Batch, ClassTargets, Images, Predictions, Targets, Terms

STATISTICS = "batch_stats"
"""The collection that a training step changes without a gradient."""

Match = Callable[[Predictions, Targets], Assignment]


class Evaluated(NamedTuple):
    """Besides the loss: its terms, and the collections of variables that the forward pass has changed."""

    terms: Terms
    changed: dict[str, Any]


Objective = Callable[[dict[str, Any], Batch, Array], tuple[Float[Array, ""], Evaluated]]


def images_of(batch: Batch) -> Images:
    """The batch as the model takes it."""
    valid = valid_pixels(batch.sizes, *batch.pixels.shape[1:3])
    return Images(normalize(batch.pixels, valid), valid)


def class_targets_of(batch: Batch, num_classes: int) -> ClassTargets:
    """The label of each image, which is that of its one object."""
    labels, valid = batch.targets.labels[:, 0], batch.targets.valid[:, 0]
    return ClassTargets(jax.nn.one_hot(labels, num_classes), valid)


def detection_objective(model: nn.Module, loss: Loss, matching: Match) -> Objective:
    """The loss of a detector against the objects that `matching` assigns to its queries.

    A model whose class says `takes_targets = True` is given the `targets`, and random numbers of the name "noise".
    """
    takes_targets = getattr(model, "takes_targets", False)

    def objective(variables: dict[str, Any], batch: Batch, key: Array) -> tuple[Array, Evaluated]:
        given, rngs = {}, {"dropout": key}
        if takes_targets:
            given = {"targets": batch.targets}
            rngs = dict(zip(("dropout", "noise"), jax.random.split(key), strict=True))
        predictions, changed = _forward(model, variables, images_of(batch), rngs, **given)
        terms = loss(predictions, batch.targets, matching(predictions, batch.targets))
        return loss.total(terms), Evaluated(terms, changed)

    return objective


def classification_objective(
    model: nn.Module, loss: CrossEntropy | PolicyLoss, mixing: Mixing, erasing: Erasing
) -> Objective:
    """The loss of a classifier on images that are partly erased and mixed with one another."""

    def objective(variables: dict[str, Any], batch: Batch, key: Array) -> tuple[Array, Evaluated]:
        erase, mix, dropout = jax.random.split(key, 3)
        targets = class_targets_of(batch, model.num_classes)
        images, targets = mixing(mix, erasing(erase, images_of(batch)), targets)
        # The answer is logits, or what the model's own loss takes.
        answer, changed = _forward(model, variables, images, {"dropout": dropout})
        terms = loss(answer, targets)
        return loss.total(terms), Evaluated(terms, changed)

    return objective


def segmentation_objective(model: nn.Module, loss: PixelCrossEntropy) -> Objective:
    """The loss of a segmentation model on every labelled pixel."""

    def objective(variables: dict[str, Any], batch: Batch, key: Array) -> tuple[Array, Evaluated]:
        logits, changed = _forward(model, variables, images_of(batch), {"dropout": key})
        labels: Any = batch.label_maps  # a segmentation source has them
        terms = loss(logits, labels)
        return loss.total(terms), Evaluated(terms, changed)

    return objective


def _forward(
    model: nn.Module, variables: dict[str, Any], images: Images, rngs: dict[str, Array], **given: Any
) -> tuple[Any, dict[str, Any]]:
    answer: Any = model.apply(variables, images, train=True, rngs=rngs, mutable=[STATISTICS], **given)
    return answer
