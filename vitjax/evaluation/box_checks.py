"""Whether a detector is any good: a task's `Checks`."""

from collections.abc import Mapping
from typing import Any

from vitjax.data.source import DetectionSource
from vitjax.evaluation.checks import Baseline
from vitjax.evaluation.constant_boxes import constant_boxes, objects_of, read_constant_boxes, score_constant_boxes
from vitjax.evaluation.mistakes_report import mistakes_report
from vitjax.evaluation.scores import Evaluation
from vitjax.evaluation.thresholds import operating_points


def constant(source: DetectionSource) -> dict[str, Any]:
    """The boxes that find most, were they on every image."""
    return constant_boxes(objects_of(source)).to_json()


def baseline(constant: Mapping[str, Any], evaluation: Evaluation, source: DetectionSource) -> Baseline:
    """COCO's scores of such boxes.

    Raises:
        VitjaxError: they are no such boxes.
    """
    return score_constant_boxes(read_constant_boxes(constant), source)


def points(evaluation: Evaluation) -> dict[str, Any] | None:
    """The threshold of the best F1, of all classes together and of each; None where nothing right is found."""
    scores: Any = evaluation.scores
    return operating_points([row.name for row in scores.per_class], scores.ranked)


def mistakes(evaluation: Evaluation, source: DetectionSource, threshold: float) -> dict[str, Any]:
    """Kinds of mistakes, confusions and the worst images, from the threshold of the best F1 on or else that given."""
    return mistakes_report(evaluation, source, points(evaluation), threshold)
