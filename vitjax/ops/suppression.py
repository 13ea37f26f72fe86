"""Non-maximum suppression, of a fixed number of boxes."""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from vitjax.ops.boxes import iou


def unsuppressed(boxes: Float[Array, "boxes 4"], labels: Int[Array, " boxes"], overlap: float) -> Bool[Array, " boxes"]:
    """Which xyxy boxes, best first, have no IoU above `overlap` with a better one of their class that is kept."""
    places = jnp.arange(len(boxes))
    worse = (labels[:, None] == labels) & (places[:, None] < places)
    rivals = worse & (iou(boxes[:, None], boxes)[0] > overlap)
    return lax.fori_loop(0, len(boxes), lambda best, kept: kept & ~(rivals[best] & kept[best]), places >= 0)
