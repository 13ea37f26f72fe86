"""From which score detections are to be taken: precision, recall and F1 at every threshold, and where F1 is best."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from pycocotools.cocoeval import COCOeval

GRID = np.linspace(0, 1, 201)
"""Thresholds at which curves are drawn."""


class Ranked(NamedTuple):
    """The scores of detections, whether each is right, and how many objects there are to find."""

    scores: Float[np.ndarray, " detections"]
    hits: Bool[np.ndarray, " detections"]
    objects: int


class Point(NamedTuple):
    """A threshold, and what is reached by taking the detections of at least this score."""

    threshold: float
    precision: float
    recall: float
    f1: float


def ranked_of(evaluation: COCOeval, images: int, objects: Sequence[int]) -> tuple[Ranked, ...]:
    """What counts of each class, from the matches at the first IoU threshold, which is 0.5, among objects of all sizes.

    pycocotools has an entry for every class, range of areas and image, None where an image has nothing of the class.
    """
    areas, ranked = len(evaluation.params.areaRng), []
    for place, count in enumerate(objects):
        entries = evaluation.evalImgs[place * areas * images : (place * areas + 1) * images]
        found = [one for one in entries if one is not None]
        scores = np.concatenate([np.zeros(0), *(np.asarray(one["dtScores"]) for one in found)])
        hits = np.concatenate([np.zeros(0, bool), *(one["dtMatches"][0] > 0 for one in found)])
        counts = np.concatenate([np.zeros(0, bool), *(one["dtIgnore"][0] == 0 for one in found)])
        ranked.append(Ranked(scores[counts], hits[counts], count))
    return tuple(ranked)


def together(ranked: Sequence[Ranked]) -> Ranked:
    """The detections of all classes as if they were of one, with the objects of all."""
    scores = np.concatenate([np.zeros(0), *(one.scores for one in ranked)])
    hits = np.concatenate([np.zeros(0, bool), *(one.hits for one in ranked)])
    return Ranked(scores, hits, sum(one.objects for one in ranked))


def best_point(ranked: Ranked) -> Point | None:
    """Where F1 is highest, of equals where least is taken; None where nothing right is found.

    The threshold is a short number between the least score that is taken and the next one below it.
    """
    if not ranked.hits.any() or not ranked.objects:
        return None
    order = np.argsort(-ranked.scores, kind="stable")
    scores, hits = ranked.scores[order], np.cumsum(ranked.hits[order])
    last = np.flatnonzero(np.append(scores[1:] < scores[:-1], True))  # results of one score are taken together
    f1 = 2 * hits[last] / (last + 1 + ranked.objects)
    best = int(f1.argmax())
    taken = last[best]
    below = float(scores[taken + 1]) if taken + 1 < len(scores) else 0.0
    right = float(hits[taken])
    threshold = _between(below, float(scores[taken]))
    return Point(threshold, right / (taken + 1), right / ranked.objects, float(f1[best]))


def at_thresholds(
    ranked: Ranked, thresholds: Float[np.ndarray, " thresholds"]
) -> Float[np.ndarray, "measures thresholds"]:
    """Precision, recall and F1 of the detections that reach each threshold.

    Precision is nan where nothing does, and without objects all is nan.
    """
    if not ranked.objects:
        return np.full((3, len(thresholds)), np.nan)
    order = np.argsort(ranked.scores, kind="stable")
    before = np.searchsorted(ranked.scores[order], thresholds)
    hits = ranked.hits.sum() - np.append(0, np.cumsum(ranked.hits[order]))[before]
    taken = len(ranked.scores) - before
    precision = np.divide(hits, taken, out=np.full(len(thresholds), np.nan), where=taken > 0)
    return np.array([precision, hits / ranked.objects, 2 * hits / (taken + ranked.objects)])


def operating_points(names: Sequence[str], ranked: Sequence[Ranked]) -> dict[str, Any] | None:
    """The best point of all classes together and of each, as json; None where nothing right is found.

    A class of which nothing right is found has none.
    """
    whole = best_point(together(ranked))
    if whole is None:
        return None
    points = [(name, best_point(one)) for name, one in zip(names, ranked, strict=True)]
    classes = [{"name": name, **_as_json(point)} for name, point in points if point is not None]
    return {"iou": 0.5, **_as_json(whole), "classes": classes}


def _as_json(point: Point) -> dict[str, float]:
    shares = {name: round(share, 4) for name, share in point._asdict().items()}
    return {**shares, "threshold": point.threshold}


def _between(below: float, score: float) -> float:
    """The shortest decimal number near the middle that is above the one and not above the other."""
    middle = (below + score) / 2
    for digits in range(2, 16):
        if below < (short := round(middle, digits)) <= score:
            return short
    return score
