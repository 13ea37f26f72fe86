"""A detector scored on a split."""

import dataclasses
from collections.abc import Iterable
from typing import Any, Protocol, runtime_checkable

from vitjax.data.source import DetectionSource
from vitjax.evaluation.coco import evaluate_boxes, to_results
from vitjax.inference.detector import Found


@runtime_checkable
class Scores(Protocol):
    """What an evaluation comes to."""

    @property
    def summary(self) -> dict[str, float]:
        """The scores by name."""
        ...

    def table(self) -> str:
        """All of it as text for people."""
        ...


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """The scores of a split, the results for each image as json has them, and the names of images not read."""

    scores: Scores
    results: list[dict[str, Any]]
    unreadable: tuple[str, ...]


def evaluate(found: Iterable[Found], source: DetectionSource) -> Evaluation:
    """COCO scores of what was found on a source; an image that could not be read counts as one without detections."""
    results: list[dict[str, Any]] = []
    unreadable: list[str] = []
    category_ids = source.classes.category_ids
    for one in found:
        if not one.readable:
            unreadable.append(source.name(one.record))
            continue
        known = one.labels < len(category_ids)  # a model may have more classes than the data
        scores, labels, boxes = (part[known][None] for part in (one.scores, one.labels, one.boxes))
        results += to_results([source.image_ids[one.record]], scores, labels, boxes, category_ids)
    return Evaluation(evaluate_boxes(source.ground_truth(), results), results, tuple(unreadable))
