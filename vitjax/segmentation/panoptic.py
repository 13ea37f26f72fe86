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
    """The segment of every pixel by its number, -1 for those of none, and what the segments are."""

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
    claim: float = 0.0,
) -> Panoptic:
    """The panoptic map of an image, of queries with the probability and label of their best class, 'no object' apart.

    Queries above the threshold share the pixels among them: each goes to the query with the largest logit, or to none
    where the probability of all their masks is below the `claim`. Those of one class of stuff are one segment, with a
    claim from the beginning. Segments below five pixels go, and the others share again; as in the published code
    the same stuff is not joined then. Where no query is left the map is zero, and there are no segments.

    Raises:
        FieldError: the threshold is below the `least`, 0.5 of softmax scores, where 'no object' may be the best class.
    """
    if threshold < least:
        raise FieldError(f"a panoptic map needs a threshold of {least:g} or more; got {threshold}.")
    kept, size = scores > threshold, masks.size
    labels, maps = labels[kept], resize_maps(masks.logits[kept], masks.seen)
    if claim:
        labels, maps = _united(labels, maps, is_thing)
    shared = _strongest(maps, claim)
    ids = _resized(shared if claim else _joined(shared, labels, is_thing), size)
    areas = _areas(ids, len(labels))
    while (areas < SMALLEST).any():
        labels, maps = labels[areas >= SMALLEST], maps[areas >= SMALLEST]
        ids = _resized(_strongest(maps, claim), size)
        areas = _areas(ids, len(labels))
    segments = zip(labels.tolist(), areas.tolist(), strict=True)
    return Panoptic(ids, tuple(Segment(i, is_thing(label), label, area) for i, (label, area) in enumerate(segments)))


def _united(
    labels: Int[np.ndarray, " segments"], maps: Float[np.ndarray, "segments h w"], is_thing: Callable[[int], bool]
) -> tuple[Int[np.ndarray, " united"], Float[np.ndarray, "united h w"]]:
    """The same with one map for each class of stuff, the largest logits, in the place of its first."""
    whose = [np.array([i]) if is_thing(label) else np.flatnonzero(labels == label) for i, label in enumerate(labels)]
    first = [i for i, rows in enumerate(whose) if rows[0] == i]
    return labels[first], np.array([maps[whose[i]].max(0) for i in first], maps.dtype).reshape(-1, *maps.shape[1:])


def _strongest(maps: Float[np.ndarray, "segments h w"], claim: float) -> Int[np.ndarray, "h w"]:
    """The segment that each pixel goes to, -1 for none; the first of those whose share rounds to the same."""
    if not len(maps):
        return np.zeros(maps.shape[1:], np.int32)
    largest = maps.max(0)
    shifted = np.exp(maps - largest)
    ids = (shifted / shifted.sum(0)).argmax(0).astype(np.int32)
    return ids if claim == 0 else np.where(largest >= np.log(claim / (1 - claim)), ids, np.int32(-1))


def _areas(ids: Int[np.ndarray, "height width"], segments: int) -> Int[np.ndarray, " segments"]:
    return np.bincount(1 + ids.ravel(), minlength=1 + segments)[1 : 1 + segments]


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
