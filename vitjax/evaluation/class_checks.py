"""Whether a classifier is any good: a task's `Checks`."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from vitjax.data.source import Source
from vitjax.evaluation.checks import Baseline, label_of, most_frequent
from vitjax.evaluation.scores import Evaluation


def constant(source: Source) -> dict[str, Any] | None:
    """The class that most training images have; None where a source does not tell labels without images."""
    labels = np.asarray(getattr(source, "labels", ()))
    return most_frequent(np.bincount(labels), source) if labels.size else None


def baseline(constant: Mapping[str, Any], evaluation: Evaluation, source: Any) -> Baseline:
    """The top-1 of naming that class always.

    Raises:
        VitjaxError: there is no such class.
    """
    scores: Any = evaluation.scores
    row = scores.per_class[label_of(constant, len(scores.per_class))]
    return Baseline(
        f"{row.name!r} for every image", {"top1": row.images / scores.images if scores.images else math.nan}
    )


def points(evaluation: Evaluation) -> None:
    """Nothing is left out by its score."""


def mistakes(evaluation: Evaluation, source: Any, threshold: float) -> None:
    """Nothing beside the scores."""
