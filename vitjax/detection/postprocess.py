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

    def queries_of(self, logits: Logits, boxes: Boxes) -> Int[Array, "batch detections"]:
        """The query of each detection."""
        return jnp.broadcast_to(jnp.arange(logits.shape[1]), logits.shape[:2])


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
        scores, pairs = self._best(logits, boxes)
        return Detections(scores, pairs % logits.shape[-1], _pixels(_chosen(boxes, pairs, logits), sizes))

    def queries_of(self, logits: Logits, boxes: Boxes) -> Int[Array, "batch detections"]:
        """The query of each detection."""
        return self._best(logits, boxes)[1] // logits.shape[-1]

    def _best(self, logits: Logits, boxes: Boxes) -> tuple[Array, Array]:
        """The scores of the best pairs, and which they are, doubles last."""
        batch, queries, classes = logits.shape
        scores, pairs = lax.top_k(jax.nn.sigmoid(logits).reshape(batch, -1), min(self.k, queries * classes))
        if self.nms is None:
            return scores, pairs
        from vitjax.ops.suppression import unsuppressed  # which no training of the published recipes needs

        corners = xyxy_from_cxcywh(_chosen(boxes, pairs, logits))
        kept = jax.vmap(partial(unsuppressed, overlap=self.nms))(corners, pairs % classes)
        scores = jnp.where(kept, scores, 0)
        order = jnp.argsort(scores, axis=-1, descending=True)
        return jnp.take_along_axis(scores, order, -1), jnp.take_along_axis(pairs, order, -1)


def _chosen(boxes: Boxes, pairs: Int[Array, "batch detections"], logits: Logits) -> Float[Array, "batch detections 4"]:
    """The box of each pair of query and class."""
    return jnp.take_along_axis(boxes, (pairs // logits.shape[-1])[..., None], axis=1)


def _pixels(boxes: Array, sizes: Array) -> Array:
    scale = sizes[:, [1, 0, 1, 0]].astype(boxes.dtype)
    return xyxy_from_cxcywh(boxes) * scale[:, None]
