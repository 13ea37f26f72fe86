"""COCO's run lengths: made of every form that a segmentation is written in, and many of them in one array."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Int, UInt8
from pycocotools import mask as coco_masks

from vitjax.errors import VitjaxError

Size = tuple[int, int]
"""Height and width."""

_MOST_DIGITS = 7  # of a number in compressed run lengths, of five bits each
_FAR = 2  # times the sides of the image that a polygon may lie outside of it


class SegmentationFault(VitjaxError):
    """Why a segmentation gives no mask, as what was counted says it of many."""


@dataclass(frozen=True, eq=False)
class RunLengths:
    """Masks of many objects as compressed run lengths, one after the other; `ends` is where each ends."""

    counts: UInt8[np.ndarray, " bytes"]
    ends: Int[np.ndarray, " objects"]

    def __len__(self) -> int:
        """The number of masks."""
        return len(self.ends)

    def __getitem__(self, row: int) -> bytes:
        """The run lengths of one mask."""
        return self.counts[self.ends[row - 1] if row else 0 : self.ends[row]].tobytes()


def gathered(counts: Iterable[bytes]) -> RunLengths:
    """Run lengths of masks in one array."""
    rows = list(counts)
    ends = np.cumsum([len(row) for row in rows], dtype=np.int64)
    return RunLengths(np.frombuffer(b"".join(rows), np.uint8), ends)


def encode(mask: Bool[np.ndarray, "height width"]) -> bytes:
    """The compressed run lengths of a mask."""
    return coco_masks.encode(np.asfortranarray(mask, np.uint8))["counts"]


def decode(counts: bytes, size: Size) -> Bool[np.ndarray, "height width"]:
    """The mask that run lengths stand for."""
    return coco_masks.decode({"size": list(size), "counts": counts}).astype(bool)


def in_coco(mask: Bool[np.ndarray, "height width"]) -> dict[str, Any]:
    """The mask as a segmentation in COCO's json."""
    return written(encode(mask), (mask.shape[0], mask.shape[1]))


def written(counts: bytes, size: Size) -> dict[str, Any]:
    """A segmentation as it stands in COCO's json."""
    return {"size": list(size), "counts": counts.decode("ascii")}


def encoded(segmentation: Any, size: Size, *, empty: bool = False) -> tuple[bytes, int]:
    """The run lengths of a segmentation on an image of that size, and how many of its polygons enclose nothing.

    Polygons are lists of x, y, x, y, ...; also one such list alone, and lists of [x, y]. Those that have fewer than
    three points are left out. Run lengths are COCO's, compressed or not.

    Raises:
        SegmentationFault: there is none, it makes no sense, it is of another size, or it covers no pixel, which it may
            only where `empty` says so.
    """
    if not segmentation:
        raise SegmentationFault("have no segmentation")
    try:
        of = _of_runs if isinstance(segmentation, dict) else _of_polygons
        counts, few = of(segmentation, size)
    except SegmentationFault:
        raise
    except (TypeError, ValueError, KeyError, AttributeError, OverflowError, RecursionError) as error:
        raise SegmentationFault("have a segmentation that makes no sense") from error
    if not empty and not area_of(counts, size):
        raise SegmentationFault("have a mask without a pixel")
    return counts, few


def area_of(counts: bytes, size: Size) -> int:
    """The pixels of a mask."""
    return int(coco_masks.area({"size": list(size), "counts": counts}))


def _of_runs(runs: dict[str, Any], size: Size) -> tuple[bytes, int]:
    height, width = (int(side) for side in runs["size"])
    if (height, width) != size:
        raise SegmentationFault("have run lengths of another size than their image")
    counts = runs["counts"]
    if isinstance(counts, list):
        if any(isinstance(count, bool) or not isinstance(count, int) for count in counts):
            raise TypeError("run lengths are whole numbers")
        lengths = np.array(counts, np.int64)
    else:
        counts = counts if isinstance(counts, bytes) else counts.encode("ascii")
        lengths = lengths_of(counts)
    if lengths.min() < 0 or lengths.max() > height * width or lengths.sum() != height * width:  # sums wrap around
        raise SegmentationFault("have run lengths that do not add up to their image")
    if isinstance(counts, list):
        counts = coco_masks.frPyObjects({"size": [height, width], "counts": counts}, height, width)["counts"]
    return counts, 0


def lengths_of(counts: bytes) -> Int[np.ndarray, " runs"]:
    """The lengths in compressed run lengths, negative ones where it cannot be right.

    Each number has five bits to a sign, the lowest first, and from the third on is the difference to the last but one.

    Raises:
        ValueError: the signs are none, or a number has too many of them.

    Source: cocodataset/cocoapi, common/maskApi.c, rleFrString.
    """
    signs = np.frombuffer(counts, np.uint8).astype(np.int64) - 48
    if not len(signs) or signs.min() < 0 or signs.max() > 63 or signs[-1] & 32:
        raise ValueError("no run lengths")
    last = (signs & 32) == 0
    number = np.cumsum(last) - last
    starts = np.concatenate([[0], np.flatnonzero(last)[:-1] + 1])
    digit = np.arange(len(signs)) - starts[number]
    if digit.max() >= _MOST_DIGITS:
        raise ValueError("run lengths without end")
    values = np.add.reduceat((signs & 31) << 5 * digit, starts)
    values -= np.where(signs[last] & 16, 1 << 5 * (digit[last] + 1), 0)
    values[1::2], values[2::2] = np.cumsum(values[1::2]), np.cumsum(values[2::2])
    return values


def _of_polygons(segmentation: Any, size: Size) -> tuple[bytes, int]:
    height, width = size
    polygons = list(_polygons(segmentation))
    whole = [polygon for polygon in polygons if len(polygon) >= 6]
    if not whole:
        raise SegmentationFault("have polygons of fewer than three points")
    for polygon in whole:
        points = np.array(polygon, np.float64).reshape(-1, 2)  # an odd number is a ValueError
        if not (np.abs(points) <= (_FAR + 1) * np.array([width, height])).all():  # also what is not finite
            raise SegmentationFault("have polygons far outside of their image")
    runs = coco_masks.frPyObjects(whole, height, width)
    return coco_masks.merge(runs)["counts"], len(polygons) - len(whole)


def _polygons(entry: Any) -> Iterable[list[float]]:
    """The polygons in an entry, each as x, y, x, y, ..."""
    if not isinstance(entry, list):
        raise TypeError(f"a polygon is a list; got {entry!r}")
    if all(isinstance(each, int | float) and not isinstance(each, bool) for each in entry):
        yield entry
    elif all(isinstance(each, list) and len(each) == 2 and not isinstance(each[0], list) for each in entry):
        yield [number for point in entry for number in point]
    else:
        for each in entry:
            yield from _polygons(each)
