"""Cross entropy against shared probabilities of classes, as sums and counts that are divided once."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from vitjax.errors import FieldError
from vitjax.structs import ClassTargets, Mean, Terms


@dataclasses.dataclass(frozen=True)
class CrossEntropy:
    """Cross entropy with label smoothing (Szegedy et al. 2016, section 7), over the valid images of a batch.

    Smoothing after images are mixed is the same as before. Source: timm, SoftTargetCrossEntropy.
    """

    task: ClassVar[str] = "classification"
    scores: ClassVar[str] = "classes"

    smoothing: float = 0.1
    """Share of the probability that goes to all classes alike."""

    def __post_init__(self) -> None:
        """Raises a FieldError for a smoothing that is no share."""
        if not 0 <= self.smoothing < 1:
            raise FieldError(f"smoothing is a share of 1, at least 0 and below 1; got {self.smoothing}.")

    def __call__(self, logits: Float[Array, "batch classes"], targets: ClassTargets) -> Terms:
        """`cross_entropy`, and for the log `class_error`: how many per cent miss the target's most likely class.

        Terms have one entry, like those of a detector with one layer of predictions.
        """
        wanted = targets.probabilities * (1 - self.smoothing) + self.smoothing / logits.shape[-1]
        entropy = -(wanted * jax.nn.log_softmax(logits.astype(jnp.float32))).sum(-1)
        wrong = logits.argmax(-1) != targets.probabilities.argmax(-1)
        count = targets.valid.sum(keepdims=True, dtype=jnp.float32)
        return {
            "cross_entropy": Mean(jnp.where(targets.valid, entropy, 0).sum(keepdims=True), count),
            "class_error": Mean(100 * (targets.valid & wrong).sum(keepdims=True, dtype=jnp.float32), count),
        }

    def total(self, terms: Terms) -> Float[Array, ""]:
        """The mean cross entropy; 0 for a batch without a valid image."""
        entropy = terms["cross_entropy"]
        return (entropy.total / jnp.maximum(entropy.count, 1)).sum()
