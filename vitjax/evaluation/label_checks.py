"""Whether a segmentation model is any good: a task's `Checks`."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from vitjax.data.errors import DataError
from vitjax.data.source import LabelMapSource
from vitjax.evaluation.checks import Baseline, label_of, most_frequent
from vitjax.evaluation.scores import Evaluation

_MAPS = 64  # of the training split, from all over it


def constant(source: LabelMapSource) -> dict[str, Any] | None:
    """The label that most pixels of some training images have; None where none can be read."""
    counts = np.zeros(256, np.int64)
    for record in np.linspace(0, len(source) - 1, min(_MAPS, len(source))).astype(int).tolist():
        try:
            counts += np.bincount(source.label_map(record).ravel(), minlength=256)
        except DataError:  # such are told where they are trained on
            continue
    return most_frequent(counts[: len(source.classes)], source)


def baseline(constant: Mapping[str, Any], evaluation: Evaluation, source: Any) -> Baseline:
    """The mIoU of giving that label to every pixel: its overlap is its share, and that of all others that are there 0.

    Raises:
        VitjaxError: there is no such label.
    """
    scores: Any = evaluation.scores
    label = label_of(constant, len(scores.per_class))
    there = sum(row.pixels > 0 or place == label for place, row in enumerate(scores.per_class))
    row = scores.per_class[label]
    return Baseline(f"{row.name!r} for every pixel", {"mIoU": row.pixels / there, "accuracy": row.pixels})


def points(evaluation: Evaluation) -> None:
    """Nothing is left out by its score."""


def mistakes(evaluation: Evaluation, source: Any, threshold: float) -> None:
    """Nothing beside the scores."""
