"""Panoptic quality: how well the segments of images are found, class by class.

Source: Kirillov et al. 2019 (Panoptic Segmentation), section 4; where that leaves something open, the official scorer
(cocodataset/panopticapi, evaluation.py).
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from vitjax.data.mask_source import PanopticMap
from vitjax.data.source import Classes
from vitjax.errors import VitjaxError
from vitjax.prediction import name_of

PARTS = tuple(f"{name}{of}" for of in ("", "_things", "_stuff") for name in ("PQ", "SQ", "RQ"))
"""The nine numbers of a split."""


@dataclass(frozen=True, eq=False)
class PanopticCounts:
    """For every class the segments that are found, those that are wrongly found and those that are missed, and the IoU
    of those found, added up. Counts of images add up to those of a split."""

    overlap: Float[np.ndarray, " classes"]
    found: Int[np.ndarray, " classes"]
    wrong: Int[np.ndarray, " classes"]
    missed: Int[np.ndarray, " classes"]

    def __add__(self, other: "PanopticCounts") -> "PanopticCounts":
        """The counts of both."""
        return PanopticCounts(*(mine + theirs for mine, theirs in zip(_parts(self), _parts(other), strict=True)))


class Quality(NamedTuple):
    """Panoptic, segmentation and recognition quality, each the mean over the classes that are there or found, nan over
    none; and their true segments."""

    PQ: float
    SQ: float
    RQ: float
    segments: int


class ClassQuality(NamedTuple):
    """The quality of one class, nan where it is neither there nor found, and its true segments."""

    name: str
    PQ: float
    SQ: float
    RQ: float
    segments: int


@dataclass(frozen=True)
class PanopticScores:
    """PQ, SQ and RQ of all classes, of things and of stuff, and a row for every class."""

    all: Quality
    things: Quality
    stuff: Quality
    per_class: tuple[ClassQuality, ...]
    arrays: dict[str, np.ndarray] = field(default_factory=dict, repr=False)

    @property
    def summary(self) -> dict[str, float]:
        """The nine numbers: PQ, SQ and RQ, and the same with _things and _stuff."""
        parts = {"": self.all, "_things": self.things, "_stuff": self.stuff}
        return {f"{name}{of}": getattr(part, name) for of, part in parts.items() for name in ("PQ", "SQ", "RQ")}

    @property
    def by_class(self) -> dict[str, float]:
        """The PQ of every class."""
        return {f"PQ/{row.name}": row.PQ for row in self.per_class}

    def table(self) -> str:
        """Text, in per cent: every class that is there or found, then all of them, things and stuff."""
        rows = [row for row in self.per_class if not np.isnan(row.PQ)]
        parts = {"all": self.all, "things": self.things, "stuff": self.stuff}
        width = max(len("class"), *map(len, parts), *(len(row.name) for row in rows))
        lines = [f"{'class':<{width}}  segments     PQ     SQ     RQ"]
        lines += [f"{row.name:<{width}}  {row.segments:>8}  {_per_cent(row[1:4])}" for row in rows]
        means = [f"{name:<{width}}  {part.segments:>8}  {_per_cent(part[:3])}" for name, part in parts.items()]
        return "\n".join([*lines, *means])


def no_counts(classes: int) -> PanopticCounts:
    """The counts of no image."""
    return PanopticCounts(np.zeros(classes), *np.zeros((3, classes), np.int64))


def panoptic_counts(truth: PanopticMap, found: PanopticMap, classes: int) -> PanopticCounts:
    """What of one image is found.

    A segment is found by one of its class with an IoU above 0.5, of which there can be one only; pixels that are
    nobody's in truth are not counted to the union. Crowds cannot be found. A segment that finds none is wrong, unless
    more than half of it lies where nobody or a crowd of its class is in truth; of several crowds of a class that is the
    last, as in the official scorer.

    Raises:
        VitjaxError: the maps differ in size, a label is no class, or a found segment has no pixel.
    """
    _check(truth, found, classes)
    shared = _shared(truth, found)  # the first row is nobody's in truth, the first column in what is found
    true_areas, areas, void = shared[1:].sum(1), shared[:, 1:].sum(0), shared[0, 1:]
    union = true_areas[:, None] + areas - shared[1:, 1:] - void
    iou = shared[1:, 1:] / np.maximum(union, 1)
    alike = (truth.labels[:, None] == found.labels) & ~truth.crowds[:, None]
    true_rows, rows = np.nonzero(alike & (iou > 0.5))
    ignored = void.copy()
    for label in np.unique(truth.labels[truth.crowds]):
        crowd = np.flatnonzero(truth.crowds & (truth.labels == label))[-1]
        ignored += np.where(found.labels == label, shared[1 + crowd, 1:], 0)
    missed, wrong = ~truth.crowds, ignored / np.maximum(areas, 1) <= 0.5
    missed[true_rows], wrong[rows] = False, False
    labels = truth.labels[true_rows]
    return PanopticCounts(
        np.bincount(labels, iou[true_rows, rows], classes).astype(np.float64),  # of nothing it is whole numbers
        *(np.bincount(each, minlength=classes) for each in (labels, found.labels[wrong], truth.labels[missed])),
    )


def panoptic_scores(counts: PanopticCounts, classes: Classes) -> PanopticScores:
    """PQ, the IoU added up by the segments found with half of those wrong or missed, and its two factors.

    SQ is the mean IoU of the segments found, RQ their share; means are over the classes that are there or found.
    """
    overlap, found, wrong, missed = _parts(counts)
    there = found + wrong + missed > 0
    whole = np.where(there, found + (wrong + missed) / 2, 1)
    quality = np.stack([overlap / whole, overlap / np.maximum(found, 1), found / whole])
    quality[:, ~there] = np.nan
    stuff = np.isin(np.arange(len(classes)), classes.stuff)
    rows = zip(quality.T.tolist(), (found + missed).tolist(), strict=True)
    per_class = tuple(
        ClassQuality(name_of(classes, label), pq, sq, rq, segments)
        for label, ((pq, sq, rq), segments) in enumerate(rows)
    )
    everything, things, of_stuff = (
        _mean(quality, found + missed, there & of_kind) for of_kind in (stuff | ~stuff, ~stuff, stuff)
    )
    return PanopticScores(everything, things, of_stuff, per_class)


def panoptic_quality(pairs: Iterable[tuple[PanopticMap, PanopticMap]], classes: Classes) -> PanopticScores:
    """The scores of (truth, found) maps, one image at a time.

    Raises:
        VitjaxError: as `panoptic_counts`.
    """
    counts = no_counts(len(classes))
    for truth, found in pairs:
        counts += panoptic_counts(truth, found, len(classes))
    return panoptic_scores(counts, classes)


def _parts(counts: PanopticCounts) -> tuple[np.ndarray, ...]:
    return counts.overlap, counts.found, counts.wrong, counts.missed


def _shared(truth: PanopticMap, found: PanopticMap) -> Int[np.ndarray, "true_and_one found_and_one"]:
    """How many pixels each two segments share; the first row and column are nobody's."""
    sides = len(truth.labels) + 1, len(found.labels) + 1
    pairs = (truth.owner.astype(np.int64) + 1) * sides[1] + found.owner + 1
    return np.bincount(pairs.ravel(), minlength=sides[0] * sides[1]).reshape(sides)


def _check(truth: PanopticMap, found: PanopticMap, classes: int) -> None:
    if truth.owner.shape != found.owner.shape:
        sizes = f"{found.owner.shape} for {truth.owner.shape}"
        raise VitjaxError(f"a panoptic map is compared with one of its own size; got {sizes}.")
    for what, one in (("true", truth), ("found", found)):
        strange = one.labels[(one.labels < 0) | (one.labels >= classes)]
        if strange.size:
            raise VitjaxError(f"a {what} segment has the label {strange[0]}, but there are {classes} classes.")
        lost = one.owner[(one.owner < -1) | (one.owner >= len(one.labels))]
        if lost.size:
            raise VitjaxError(f"a pixel of a {what} map is of segment {lost[0]}, but there are {len(one.labels)}.")
    empty = np.flatnonzero(np.bincount(found.owner[found.owner >= 0], minlength=len(found.labels)) == 0)
    if empty.size:
        raise VitjaxError(f"found segment {empty[0]}, of label {found.labels[empty[0]]}, has no pixel.")


def _mean(quality: np.ndarray, segments: np.ndarray, chosen: np.ndarray) -> Quality:
    pq, sq, rq = quality[:, chosen].mean(1).tolist() if chosen.any() else [float("nan")] * 3
    return Quality(pq, sq, rq, int(segments[chosen].sum()))


def _per_cent(shares: Iterable[float]) -> str:
    return "  ".join(f"{'-' if np.isnan(share) else f'{100 * share:.1f}':>5}" for share in shares)
