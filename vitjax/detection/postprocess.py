"""From predictions to boxes for people."""

import dataclasses
from functools import partial
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float, Int

from vitjax.errors import FieldError
from vitjax.ops.boxes import xyxy_from_cxcywh
from vitjax.ops.suppression import unsuppressed
from vitjax.structs import Detections

Logits = Float[Array, "batch queries classes"]
Boxes = Float[Array, "batch queries 4"]
Sizes = Int[Array, "batch 2"]


@dataclasses.dataclass(frozen=True)
class BestClass:
    """One detection per query, in query order: the best class other than 'no object', with its probability."""

    task: ClassVar[str] = "detection"
    scores: ClassVar[str] = "softmax"

    threshold: float = 0.5
    """Score from which a detection is shown to people; what is evaluated is not cut."""

    def __call__(self, logits: Logits, boxes: Boxes, sizes: Sizes) -> Detections:
        """Boxes in pixels of the original images, whose (height, width) are `sizes`."""
        probabilities = jax.nn.softmax(logits, axis=-1)[..., :-1]
        return Detections(probabilities.max(-1), probabilities.argmax(-1), _pixels(boxes, sizes))


@dataclasses.dataclass(frozen=True)
class TopDetections:
    """The best pairs of query and class, best first: a query may be found as several classes, or not at all."""

    task: ClassVar[str] = "detection"
    scores: ClassVar[str] = "sigmoid"

    k: int = 100
    """Detections per image; fewer where there are fewer pairs."""
    threshold: float = 0.3
    """As with `BestClass`; lower, because the focal loss keeps scores low."""
    nms: float | None = None
    """IoU with a better box of the same class above which a box is a double: it comes last, with score 0. A model that
    trained for a short time has not yet learned to find an object once. None: all boxes keep their scores."""

    def __post_init__(self) -> None:
        """Raises a FieldError for an IoU that cannot be."""
        if self.nms is not None and not 0 <= self.nms <= 1:
            raise FieldError(f"TopDetections.nms is an IoU from 0 to 1, got {self.nms}")

    def __call__(self, logits: Logits, boxes: Boxes, sizes: Sizes) -> Detections:
        """Sigmoid scores, and boxes in pixels of the original images, whose (height, width) are `sizes`."""
        batch, queries, classes = logits.shape
        scores, pairs = lax.top_k(jax.nn.sigmoid(logits).reshape(batch, -1), min(self.k, queries * classes))
        chosen = jnp.take_along_axis(boxes, (pairs // classes)[..., None], axis=1)
        found = Detections(scores, pairs % classes, _pixels(chosen, sizes))
        return found if self.nms is None else jax.vmap(partial(_doubles_last, overlap=self.nms))(found)


def _doubles_last(found: Detections, overlap: float) -> Detections:
    """The detections of one image, best first, after suppression."""
    scores = jnp.where(unsuppressed(found.boxes, found.labels, overlap), found.scores, 0)
    order = jnp.argsort(scores, descending=True)
    return Detections(scores[order], found.labels[order], found.boxes[order])


def _pixels(boxes: Array, sizes: Array) -> Array:
    scale = sizes[:, [1, 0, 1, 0]].astype(boxes.dtype)
    return xyxy_from_cxcywh(boxes) * scale[:, None]
