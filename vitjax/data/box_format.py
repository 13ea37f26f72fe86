"""Whether boxes are [x, y, width, height] in pixels at all, as their numbers as a whole tell it."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from vitjax.data.annotations import Annotations, is_relative

WISH = "Write bbox as [x, y, width, height] in pixels."

_TOLERANCE = 1.0  # pixels, as where boxes are clamped
_ENOUGH = 5  # boxes from which on their coordinates as a whole tell something
_NEARLY_ALL = 0.95
_MANY_BEYOND = 0.3
_SOME_BEYOND = 0.1


class Garbled(NamedTuple):
    """What boxes are instead, in words, and the first of them as it is written."""

    text: str
    first: str


def garbled(table: Annotations, sizes: Int[np.ndarray, "records 2"]) -> Garbled | None:
    """What boxes seem to be that are no [x, y, width, height] in pixels; `table` has them as read, not yet tidied."""
    finite = np.isfinite(table.boxes).all(1)
    boxes, limits = table.boxes[finite], sizes[table.records[finite]][:, ::-1]
    if len(boxes) < _ENOUGH:
        return None
    corner, extent = boxes[:, :2], boxes[:, 2:] - boxes[:, :2]
    beyond = (boxes[:, 2:] > limits + _TOLERANCE).any(1).mean()
    ordered = ((extent > corner) & (extent <= limits + _TOLERANCE) & (corner >= 0)).all(1).mean()
    around = ((corner >= extent / 2 - _TOLERANCE) & (corner + extent / 2 <= limits + _TOLERANCE)).all(1).mean()
    relative = is_relative(boxes).mean()
    first = numbers(corner[0], extent[0])
    if relative > _NEARLY_ALL:
        return Garbled(f"boxes seem to be relative to their image: {relative:.0%} have no coordinate above 1", first)
    out = f"read as they should be, {beyond:.0%} reach out of their image"
    if ordered > _NEARLY_ALL and beyond > _MANY_BEYOND:
        return Garbled(f"boxes seem to be [x1, y1, x2, y2]: {out}", first)
    if around > _NEARLY_ALL and beyond > _SOME_BEYOND:
        return Garbled(f"boxes seem to be [centre x, centre y, width, height]: {out}", first)
    return None


def numbers(corner: Float[np.ndarray, "2"], extent: Float[np.ndarray, "2"]) -> str:
    """A box as it is written: [x, y, width, height]."""
    return f"[{', '.join(f'{number:g}' for number in (*corner.tolist(), *extent.tolist()))}]"
