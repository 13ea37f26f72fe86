"""A detector scored on a split."""

from collections.abc import Iterable
from typing import Any

from vitjax.data.source import DetectionSource
from vitjax.evaluation.coco import evaluate_boxes, to_results
from vitjax.evaluation.scores import Evaluation
from vitjax.prediction import Answer


def evaluate(answers: Iterable[Answer], source: DetectionSource) -> Evaluation:
    """COCO scores of what was found on a source; an image that could not be read counts as one without detections."""
    results: list[dict[str, Any]] = []
    unreadable: list[str] = []
    category_ids = source.classes.category_ids
    for record, _, found in answers:
        if found is None:
            unreadable.append(source.name(record))
            continue
        known = found.labels < len(category_ids)  # a model may have more classes than the data
        scores, labels, boxes = (part[known][None] for part in (found.scores, found.labels, found.boxes))
        results += to_results([source.image_ids[record]], scores, labels, boxes, category_ids)
    return Evaluation(evaluate_boxes(source.ground_truth(), results), results, tuple(unreadable))
