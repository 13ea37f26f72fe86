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
    class_weights: tuple[float, ...] | None = None
    """What the loss of each class is multiplied with, in the order of their labels; the sum is divided by the weights
    of the targets, as torch does it. None: all alike."""

    def __post_init__(self) -> None:
        """Raises a FieldError for a smoothing that is no share."""
        if not 0 <= self.smoothing < 1:
            raise FieldError(f"smoothing is a share of 1, at least 0 and below 1; got {self.smoothing}.")

    @jax.named_scope("loss")
    def __call__(self, logits: Float[Array, "batch classes"], targets: ClassTargets) -> Terms:
        """`cross_entropy`, and for the log `class_error`: how many per cent miss the target's most likely class.

        Terms have one entry, like those of a detector with one layer of predictions.
        """
        wanted = targets.probabilities * (1 - self.smoothing) + self.smoothing / logits.shape[-1]
        wrong = logits.argmax(-1) != targets.probabilities.argmax(-1)
        weighed = count = targets.valid.sum(keepdims=True, dtype=jnp.float32)
        if self.class_weights is not None:
            weights = jnp.asarray(self.class_weights, jnp.float32)
            wanted = wanted * weights
            of_image = (targets.probabilities * weights).sum(-1)
            weighed = jnp.where(targets.valid, of_image, 0).sum(keepdims=True)
        entropy = -(wanted * jax.nn.log_softmax(logits.astype(jnp.float32))).sum(-1)
        return {
            "cross_entropy": Mean(jnp.where(targets.valid, entropy, 0).sum(keepdims=True), weighed),
            "class_error": Mean(100 * (targets.valid & wrong).sum(keepdims=True, dtype=jnp.float32), count),
        }

    def total(self, terms: Terms) -> Float[Array, ""]:
        """The mean cross entropy; 0 for a batch without a valid image."""
        entropy = terms["cross_entropy"]
        least = 1 if self.class_weights is None else 1e-12
        return (entropy.total / jnp.maximum(entropy.count, least)).sum()
