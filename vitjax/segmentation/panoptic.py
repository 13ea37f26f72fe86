"""One segment for every pixel, of an object or of stuff. Source: reference DETR, `PostProcessPanoptic`."""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from PIL import Image

from vitjax.errors import FieldError
from vitjax.segmentation.masks import Masks, Size, resize_maps

SMALLEST = 5
"""Pixels that a segment has at least."""


class Segment(NamedTuple):
    """A number in a panoptic map, and what it stands for."""

    id: int
    is_thing: bool
    label: int
    area: int


@dataclasses.dataclass(frozen=True)
class Panoptic:
    """The segment of every pixel by its number, and what the segments are."""

    ids: Int[np.ndarray, "height width"]
    segments: tuple[Segment, ...]


def panoptic(
    scores: Float[np.ndarray, " queries"],
    labels: Int[np.ndarray, " queries"],
    masks: Masks,
    *,
    is_thing: Callable[[int], bool],
    threshold: float = 0.85,
    least: float = 0.5,
) -> Panoptic:
    """The panoptic map of an image, of queries with the probability and label of their best class, 'no object' apart.

    Queries above the threshold share the pixels among them: each goes to the query with the largest logit. Those of one
    class of stuff are one segment. Segments below five pixels go, and the others share again; as in the published code
    the same stuff is not joined then. Where no query is left the map is zero, and there are no segments.

    Raises:
        FieldError: the threshold is below the `least`, 0.5 of softmax scores, where 'no object' may be the best class.
    """
    if threshold < least:
        raise FieldError(f"a panoptic map needs a threshold of {least:g} or more; got {threshold}.")
    kept, size = scores > threshold, masks.size
    labels, maps = labels[kept], resize_maps(masks.logits[kept], masks.seen)
    ids = _resized(_joined(_strongest(maps), labels, is_thing), size)
    areas = np.bincount(ids.ravel(), minlength=len(labels))[: len(labels)]
    while (areas < SMALLEST).any():
        labels, maps = labels[areas >= SMALLEST], maps[areas >= SMALLEST]
        ids = _resized(_strongest(maps), size)
        areas = np.bincount(ids.ravel(), minlength=len(labels))[: len(labels)]
    segments = zip(labels.tolist(), areas.tolist(), strict=True)
    return Panoptic(ids, tuple(Segment(i, is_thing(label), label, area) for i, (label, area) in enumerate(segments)))


def _strongest(maps: Float[np.ndarray, "segments h w"]) -> Int[np.ndarray, "h w"]:
    """The segment that each pixel goes to; the first of those whose share rounds to the same."""
    if not len(maps):
        return np.zeros(maps.shape[1:], np.int32)
    shifted = np.exp(maps - maps.max(0))
    return (shifted / shifted.sum(0)).argmax(0).astype(np.int32)


def _joined(
    ids: Int[np.ndarray, "h w"], labels: Int[np.ndarray, " segments"], is_thing: Callable[[int], bool]
) -> Int[np.ndarray, "h w"]:
    """All pixels of one class of stuff with the number of its first segment."""
    first = [labels.tolist().index(label) if not is_thing(label) else i for i, label in enumerate(labels.tolist())]
    return np.array(first or [0], np.int32)[ids]


def _resized(ids: Int[np.ndarray, "h w"], size: Size) -> Int[np.ndarray, "height width"]:
    """The numbers at pixel centres, as Pillow finds the nearest; the masks of objects are resized by another rule."""
    height, width = size
    return np.asarray(Image.fromarray(ids).resize((width, height), Image.Resampling.NEAREST))
