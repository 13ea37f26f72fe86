"""Non-maximum suppression, for models that find an object more than once; DETR and its kin do without."""

import numpy as np
from jaxtyping import Bool, Float

from vitjax.prediction import Prediction


def suppress(prediction: Prediction, overlap: float) -> Prediction:
    """The prediction without boxes whose IoU with a better one of the same class, itself kept, is above `overlap`."""
    labels = np.asarray(prediction.labels)
    rivals = _overlap_more(np.asarray(prediction.boxes, np.float64), overlap) & (labels[:, None] == labels)
    kept = np.ones(len(prediction), bool)
    for best in range(len(prediction)):  # best first, so whoever comes after a kept one is worse
        if kept[best]:
            kept[best + 1 :] &= ~rivals[best, best + 1 :]
    return prediction.take(np.flatnonzero(kept))


def _overlap_more(boxes: Float[np.ndarray, "boxes 4"], overlap: float) -> Bool[np.ndarray, "boxes boxes"]:
    """Which pairs of xyxy boxes have an IoU above `overlap`; a box without area overlaps nothing."""
    low = np.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(-1)
    areas = np.clip(boxes[:, 2:] - boxes[:, :2], 0, None).prod(-1)
    return shared > overlap * (areas[:, None] + areas - shared)
