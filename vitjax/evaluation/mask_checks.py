"""Whether a detector with masks is any good: a task's `Checks`, of the boxes of things."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from vitjax.evaluation import box_checks
from vitjax.evaluation.checks import Baseline
from vitjax.evaluation.constant_boxes import constant_boxes, objects_of
from vitjax.evaluation.scores import Evaluation


def constant(source: Any) -> dict[str, Any]:
    """The boxes that find most things, were they on every image."""
    objects = objects_of(source)
    things = ~np.isin(objects.labels, source.classes.stuff)
    columns = {name: getattr(objects, name)[things] for name in ("boxes", "labels", "rows")}
    return constant_boxes(objects._replace(**columns)).to_json()


def baseline(constant: Mapping[str, Any], evaluation: Evaluation, source: Any) -> Baseline:
    """COCO's scores of such boxes.

    Raises:
        VitjaxError: they are no such boxes.
    """
    return box_checks.baseline(constant, evaluation, source)


def points(evaluation: Evaluation) -> dict[str, Any] | None:
    """The threshold of the best F1 of boxes, of all things together and of each; None where nothing right is found."""
    return box_checks.points(_of_boxes(evaluation))


def mistakes(evaluation: Evaluation, source: Any, threshold: float) -> dict[str, Any]:
    """What is wrong with the boxes of things."""
    boxes = _of_boxes(evaluation)
    stuff = {source.classes.category_ids[label] for label in source.classes.stuff}
    things = [one for one in boxes.results if one["category_id"] not in stuff]
    return box_checks.mistakes(dataclasses.replace(boxes, results=things), source, threshold)


def _of_boxes(evaluation: Evaluation) -> Evaluation:
    scores: Any = evaluation.scores
    return dataclasses.replace(evaluation, scores=getattr(scores, "boxes", scores))
