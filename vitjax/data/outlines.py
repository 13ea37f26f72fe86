"""The box of a COCO segmentation: of its polygons, or of its run lengths."""

import math
from typing import Any

import numpy as np

Box = tuple[float, float, float, float]


def box_of(segmentation: Any) -> Box | None:
    """(x, y, width, height) in pixels of what is outlined; None where it outlines nothing, or makes no sense.

    Polygons are lists of x, y, x, y, ...; also one such list alone, and lists of [x, y]. Run lengths are COCO's,
    compressed or not.
    """
    try:
        return _of_runs(segmentation) if isinstance(segmentation, dict) else _of_polygons(segmentation)
    except (TypeError, ValueError, KeyError, AttributeError, OverflowError, RecursionError):
        return None


def _of_polygons(polygons: Any) -> Box | None:
    numbers = list(_numbers(polygons))
    if len(numbers) < 4 or len(numbers) % 2 or not all(map(math.isfinite, numbers)):
        return None
    xs, ys = numbers[::2], numbers[1::2]
    return min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)


def _numbers(entry: Any) -> list[float]:
    if isinstance(entry, list):
        return [number for each in entry for number in _numbers(each)]
    if isinstance(entry, bool) or not isinstance(entry, int | float):
        raise TypeError(f"a polygon is made of numbers; got {entry!r}")
    return [float(entry)]


def _of_runs(runs: dict[str, Any]) -> Box | None:
    """Source: cocodataset/cocoapi, common/maskApi.c; what it does not check is checked here."""
    from pycocotools import mask

    height, width = (int(side) for side in runs["size"])
    counts = runs["counts"]
    if min(height, width) < 1 or height * width >= 2**31:
        return None
    if isinstance(counts, list):
        if not all(isinstance(count, int) and count >= 0 for count in counts) or sum(counts) != height * width:
            return None
        encoded = mask.frPyObjects({"size": [height, width], "counts": counts}, height, width)
    else:
        text = counts.encode("ascii")
        digits = np.frombuffer(text, np.uint8).astype(int) - 48  # six bits each; bit 5 says that more follow
        if not len(text) or digits.min() < 0 or digits.max() > 63 or digits[-1] & 32:
            return None
        encoded = {"size": [height, width], "counts": text}
    x, y, wide, high = mask.toBbox(encoded).tolist()
    return (x, y, wide, high) if wide and high and x + wide <= width and y + high <= height else None
