"""What is kept and told of a detector's validation: its mistakes, thresholds and curves, as json and in a few lines."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from vitjax.data.source import DetectionSource
from vitjax.evaluation.coco import CocoScores
from vitjax.evaluation.mistakes import (
    BACKGROUND_IOU,
    IGNORED,
    KINDS,
    RIGHT,
    RIGHT_IOU,
    ImageMistakes,
    mistakes_of,
)
from vitjax.evaluation.scores import Evaluation
from vitjax.evaluation.thresholds import GRID, at_thresholds, together

ON_CROWD = "on a crowd"
"""In place of a kind of mistake."""

_CONFUSIONS = 3


def mistakes_report(
    evaluation: Evaluation, source: DetectionSource, points: Mapping[str, Any] | None, threshold: float
) -> dict[str, Any]:
    """What a detector does wrong on a source, as json: from the threshold of the best F1 on, or else that given.

    `points` is what `operating_points` says. `errors` counts kinds of mistakes, `confusion` has rows of truth and
    columns of what was found, with the background last; `curves` are precision at 101 recalls from 0 to 1, of every
    class and their mean, and F1 at `thresholds`, of every class and of all together; `worst` are some images with boxes
    as xyxy in pixels. What is not defined is null.
    """
    scores: Any = evaluation.scores
    threshold = points["threshold"] if points else threshold
    mistakes = mistakes_of(source.ground_truth(), evaluation.results, threshold)
    names = {key: source.name(record) for record, key in enumerate(source.image_ids)}
    return {
        "iou": RIGHT_IOU,
        "background_iou": BACKGROUND_IOU,
        "points": points,
        "threshold": threshold,
        "classes": list(mistakes.names),
        "objects": mistakes.objects,
        "boxes": mistakes.found,
        "right": mistakes.right,
        "errors": dict(zip(KINDS, mistakes.kinds.tolist(), strict=True)),
        "confusion": mistakes.confusion.tolist(),
        "curves": _curves(scores),
        "worst": [_image(one, names[one.image_id], mistakes.names) for one in mistakes.worst],
    }


def mistake_lines(report: Mapping[str, Any]) -> tuple[str, ...]:
    """A few lines for people: the best F1, how many objects were found, what is wrong with the boxes, confusions."""
    points, threshold = report["points"], report["threshold"]
    if points:
        reached = ", ".join(f"{name} {points[name]:.3f}" for name in ("f1", "precision", "recall"))
        lines = [f"best threshold {threshold:g}, at IoU {report['iou']:g}: {reached.replace('f1', 'F1')}"]
    else:
        lines = [f"no threshold gives an F1 above 0; boxes from a score of {threshold:g} on are looked at"]
    wrong = ", ".join(f"{count:,} {kind}" for kind, count in report["errors"].items())
    boxes = f"{report['boxes']:,} box{'' if report['boxes'] == 1 else 'es'}"
    lines.append(f"{report['right']:,} of {report['objects']:,} objects found by {boxes}; {wrong}")
    table = np.array(report["confusion"])[:-1, :-1]
    pairs = [(count, truth, found) for (truth, found), count in np.ndenumerate(table) if count and truth != found]
    pairs = sorted(pairs, key=lambda pair: (-pair[0], *pair[1:]))[:_CONFUSIONS]
    if pairs:
        named = [
            f"{report['classes'][truth]} -> {report['classes'][found]} ({count:,})" for count, truth, found in pairs
        ]
        lines.append(f"most often confused (truth -> found): {', '.join(named)}")
    return tuple(lines)


def _curves(scores: CocoScores) -> dict[str, Any]:
    precision = scores.curves["precision"][0, :, :, 0, -1].T.astype(np.float64)
    precision[precision < 0] = np.nan
    there = ~np.isnan(precision).all(1)
    mean = precision[there].mean(0, keepdims=True) if there.any() else np.full((1, precision.shape[1]), np.nan)
    f1 = [at_thresholds(one, GRID)[2] for one in (*scores.ranked, together(scores.ranked))]
    return {
        "precision": _plain(np.concatenate([precision, mean])),
        "thresholds": GRID.round(4).tolist(),
        "f1": _plain(np.array(f1)),
    }


def _plain(curves: np.ndarray) -> list[list[float] | None]:
    """Each curve with three decimals, None where it is not defined."""
    return [None if np.isnan(curve).any() else curve.round(3).tolist() for curve in curves]


def _image(one: ImageMistakes, name: str, classes: tuple[str, ...]) -> dict[str, Any]:
    single = ~one.truth.crowds
    missed = (one.judged.finders < 0)[single].tolist()
    truth = zip(one.truth.boxes[single].round(2).tolist(), one.truth.labels[single].tolist(), missed, strict=True)
    said = {RIGHT: None, IGNORED: ON_CROWD} | dict(enumerate(KINDS))
    kinds = [said[kind] for kind in one.judged.kinds.tolist()]
    columns = (one.found.boxes.round(2).tolist(), one.found.labels.tolist(), one.found.scores.round(4).tolist(), kinds)
    return {
        "image_id": np.asarray(one.image_id).item(),
        "name": name,
        "f1": round(one.f1, 4),
        "truth": [{"box": box, "name": classes[label], "missed": lost} for box, label, lost in truth],
        "found": [
            {"box": box, "name": classes[label], "score": score, "mistake": kind}
            for box, label, score, kind in zip(*columns, strict=True)
        ],
    }
