"""How much boxes overlap, on the host."""

import numpy as np
from jaxtyping import Bool, Float


def overlaps(
    ones: Float[np.ndarray, "ones 4"],
    others: Float[np.ndarray, "others 4"],
    crowds: Bool[np.ndarray, " others"] | None = None,
) -> Float[np.ndarray, "ones others"]:
    """IoU of xyxy boxes; with one of the `crowds` the share of the first box that lies in it, as COCO has it.

    Two boxes without area have an IoU of 0.
    """
    ones, others = ones.astype(np.float64), others.astype(np.float64)
    low = np.maximum(ones[:, None, :2], others[None, :, :2])
    high = np.minimum(ones[:, None, 2:], others[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(-1)
    own, their = (np.clip(boxes[:, 2:] - boxes[:, :2], 0, None).prod(-1) for boxes in (ones, others))
    whole = own[:, None] + their - shared
    if crowds is not None:
        whole = np.where(crowds, own[:, None], whole)
    return np.divide(shared, whole, out=np.zeros_like(shared), where=whole > 0)
