"""A segmentation model scored on a split: the overlap of every class with its truth, pixel by pixel."""

import dataclasses
from collections.abc import Iterable
from typing import Any, ClassVar, NamedTuple

import numpy as np
from jaxtyping import Int, UInt8

from vitjax.data.errors import DataError
from vitjax.data.source import NO_LABEL, Classes, LabelMapSource
from vitjax.errors import VitjaxError
from vitjax.evaluation.scores import Evaluation
from vitjax.prediction import Answer, name_of


class ClassOverlap(NamedTuple):
    """Intersection over union of a class, nan where it is neither there nor found, and its share of true pixels."""

    name: str
    iou: float
    pixels: float


@dataclasses.dataclass(frozen=True)
class SegmentationScores:
    """`mIoU`, the mean over the classes that are there or found, and `accuracy`, the share of pixels that are right.

    Both are in [0, 1] and count all labelled pixels of all images together; they are nan where there are none.
    """

    summary: dict[str, float]
    per_class: tuple[ClassOverlap, ...]
    pixels: int
    arrays: ClassVar[dict[str, np.ndarray]] = {}

    @property
    def by_class(self) -> dict[str, float]:
        """The IoU of every class."""
        return {f"IoU/{row.name}": row.iou for row in self.per_class}

    def table(self) -> str:
        """Text, shares in per cent: every class, then the mean and the accuracy."""
        width = max(len("accuracy"), *(len(row.name) for row in self.per_class))
        lines = [f"{'class':<{width}}  pixels %   IoU %"]
        lines += [f"{name:<{width}}  {_per_cent(share):>8}  {_per_cent(iou):>6}" for name, iou, share in self.per_class]
        lines += [f"{name:<{width}}  {'':>8}  {_per_cent(score):>6}" for name, score in self.summary.items()]
        return "\n".join(lines)


def confusion(
    truth: UInt8[np.ndarray, "height width"], found: UInt8[np.ndarray, "_ _"], classes: int
) -> Int[np.ndarray, "{classes} {classes}+1"]:
    """How many pixels of each class (row) are found as each (column); the last column is what is no class of the data.

    Raises:
        VitjaxError: the maps differ in size, or the truth has a label that is no class.
    """
    if truth.shape != found.shape:
        raise VitjaxError(f"a label map is compared with one of its own size; got {found.shape} for {truth.shape}.")
    known = truth != NO_LABEL
    rows, columns = truth[known].astype(np.int64), np.minimum(found[known], classes)
    if rows.size and rows.max() >= classes:
        raise VitjaxError(f"labels of {classes} classes are below {classes}, or {NO_LABEL} for none; got {rows.max()}.")
    counts = np.bincount(rows * (classes + 1) + columns, minlength=classes * (classes + 1))
    return counts.reshape(classes, classes + 1)


def score_confusion(counts: Int[np.ndarray, "classes classes+1"], classes: Classes) -> SegmentationScores:
    """The scores of a table of pixels as `confusion` makes it, or of the sum of several."""
    hits, truth, found = np.diagonal(counts), counts.sum(1), counts[:, :-1].sum(0)
    union, pixels = truth + found - hits, int(truth.sum())
    overlaps = np.divide(hits, union, out=np.full(len(union), np.nan), where=union > 0)
    shares = truth / pixels if pixels else np.full(len(truth), np.nan)
    rows = tuple(
        ClassOverlap(name_of(classes, label), float(overlaps[label]), float(shares[label]))
        for label in range(len(classes))
    )
    there = overlaps[union > 0]
    mean = float(there.mean()) if there.size else float("nan")
    accuracy = float(hits.sum() / pixels) if pixels else float("nan")
    return SegmentationScores({"mIoU": mean, "accuracy": accuracy}, rows, pixels)


def evaluate(answers: Iterable[Answer], source: LabelMapSource) -> Evaluation:
    """Scores of label maps against those of a source, both as large as the images that the source has.

    The pixels of an image that could not be read count as missed where its labels can be read.

    Raises:
        VitjaxError: a label map of the source has a label that is no class.
    """
    classes = len(source.classes)
    counts = np.zeros((classes, classes + 1), np.int64)
    results: list[dict[str, Any]] = []
    unreadable: list[str] = []
    for record, _, found in answers:
        if found is None:
            mine = _missed(record, source)
            unreadable.append(source.name(record))
        else:
            mine = confusion(source.label_map(record), found.label_map, classes)
            results.append(_result(mine, record, source))
        counts += mine
    return Evaluation(score_confusion(counts, source.classes), results, tuple(unreadable))


def _missed(record: int, source: LabelMapSource) -> Int[np.ndarray, "classes classes+1"]:
    """The pixels of an image without a found map, all of them in the last column."""
    classes = len(source.classes)
    try:
        truth = source.label_map(record)
    except DataError:  # a label that is no class is none, and is told
        return np.zeros((classes, classes + 1), np.int64)
    return confusion(truth, np.full_like(truth, NO_LABEL), classes)


def _result(counts: Int[np.ndarray, "classes classes+1"], record: int, source: LabelMapSource) -> dict[str, Any]:
    """The scores of one image, ready for json; classes that are neither there nor found are left out."""
    scores = score_confusion(counts, source.classes)
    overlaps = {row.name: round(row.iou, 6) for row in scores.per_class if not np.isnan(row.iou)}
    accuracy = None if np.isnan(scores.summary["accuracy"]) else round(scores.summary["accuracy"], 6)
    return {"image": np.asarray(source.image_ids[record]).item(), "accuracy": accuracy, "IoU": overlaps}


def _per_cent(share: float) -> str:
    return "-" if np.isnan(share) else f"{100 * share:.2f}"
