"""From predictions to boxes for people."""

import dataclasses

import jax
from jax import Array
from jaxtyping import Float, Int

from vitjax.ops.boxes import xyxy_from_cxcywh
from vitjax.structs import Detections


@dataclasses.dataclass(frozen=True)
class BestClass:
    """One detection per query, in query order: the best class other than 'no object', with its probability."""

    def __call__(
        self,
        logits: Float[Array, "batch queries classes"],
        boxes: Float[Array, "batch queries 4"],
        sizes: Int[Array, "batch 2"],
    ) -> Detections:
        """Boxes in pixels of the original images, whose (height, width) are `sizes`."""
        probabilities = jax.nn.softmax(logits, axis=-1)[..., :-1]
        scale = sizes[:, [1, 0, 1, 0]].astype(boxes.dtype)
        return Detections(
            scores=probabilities.max(-1),
            labels=probabilities.argmax(-1),
            boxes=xyxy_from_cxcywh(boxes) * scale[:, None],
        )
