"""A detector with masks scored on a split: boxes, masks, and where the data have them segments of every pixel."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from vitjax.data.errors import DataError
from vitjax.data.mask_source import MaskSource, PanopticMap, PanopticSource
from vitjax.data.run_lengths import in_coco
from vitjax.evaluation.coco import CocoScores, evaluate_boxes, to_results
from vitjax.evaluation.coco_masks import evaluate_masks
from vitjax.evaluation.panoptic import PanopticCounts, PanopticScores, no_counts, panoptic_counts, panoptic_scores
from vitjax.evaluation.scores import Evaluation
from vitjax.prediction import Answer, Prediction

MASKS = "segm_"
"""What names of mask scores begin with."""


@dataclass(frozen=True)
class MaskScores:
    """COCO's scores of boxes, the same of masks with names that begin with segm_, and panoptic quality."""

    boxes: CocoScores
    masks: CocoScores
    panoptic: PanopticScores | None = None

    @property
    def summary(self) -> dict[str, float]:
        """All numbers by name: AP, ..., segm_AP, ..., PQ, ...."""
        panoptic = {} if self.panoptic is None else self.panoptic.summary
        return self.boxes.summary | _named(self.masks.summary) | panoptic

    @property
    def by_class(self) -> dict[str, float]:
        """AP, segm_AP and PQ of every class."""
        panoptic = {} if self.panoptic is None else self.panoptic.by_class
        return self.boxes.by_class | _named(self.masks.by_class) | panoptic

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """The curves of boxes, and those of masks with names that begin with segm_."""
        return self.boxes.arrays | _named(self.masks.arrays)

    def table(self) -> str:
        """The tables of all, each under its name."""
        parts = {"boxes": self.boxes, "masks": self.masks, "panoptic quality": self.panoptic}
        return "\n\n".join(f"{name.upper()}\n{part.table()}" for name, part in parts.items() if part is not None)


def evaluate(
    answers: Iterable[Answer],
    source: MaskSource,
    panoptic_of: Callable[[Prediction], PanopticMap] | None = None,
) -> Evaluation:
    """Scores of what was found on a source, with a panoptic map of each prediction where the source has such.

    An image that could not be read counts as one on which nothing is found. Nothing is kept but run lengths and counts.
    """
    results: list[dict[str, Any]] = []
    unreadable: list[str] = []
    counts = no_counts(len(source.classes)) if panoptic_of and isinstance(source, PanopticSource) else None
    for record, _, found in answers:
        if found is None:
            unreadable.append(source.name(record))
        else:
            results += _results(found, source.image_ids[record], source.classes.category_ids)
        if counts is not None:
            counts += _counts(source, record, found, panoptic_of)
    stuff = {
        source.classes.category_ids[label] for label in source.classes.stuff
    }  # of which there is no truth in boxes
    things = [result for result in results if result["category_id"] not in stuff]
    masks = evaluate_masks(source.mask_truth(), things)
    panoptic = None if counts is None else panoptic_scores(counts, source.classes)
    scores = MaskScores(evaluate_boxes(source.ground_truth(), things), masks, panoptic)
    return Evaluation(scores, results, tuple(unreadable))


def _results(found: Prediction, image_id: Any, category_ids: tuple[int, ...]) -> list[dict[str, Any]]:
    """COCO-results dicts with boxes and masks, ready for json; masks are made and encoded one at a time."""
    known = found.take(np.flatnonzero(found.labels < len(category_ids)))  # a model may have more classes than the data
    results = to_results([image_id], known.scores[None], known.labels[None], known.boxes[None], category_ids)
    masks: Any = known.masks
    for row, result in enumerate(results):
        result["segmentation"] = in_coco(masks[row])
    return results


def _counts(source: Any, record: int, found: Prediction | None, panoptic_of: Any) -> PanopticCounts:
    classes = len(source.classes)
    try:
        truth = source.panoptic(record)
    except DataError:
        if found is None:  # neither image nor truth
            return no_counts(classes)
        raise
    if found is None:
        nothing = PanopticMap(np.full_like(truth.owner, -1), truth.labels[:0], truth.crowds[:0])
        return panoptic_counts(truth, nothing, classes)
    return panoptic_counts(truth, panoptic_of(found), classes)


def _named(values: dict[str, Any]) -> dict[str, Any]:
    return {f"{MASKS}{name}": value for name, value in values.items()}
