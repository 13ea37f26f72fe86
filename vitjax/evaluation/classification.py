"""A classifier scored on a split: top-1, top-5, and which classes it takes for which."""

import dataclasses
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np

from vitjax.data.source import Classes, Source
from vitjax.evaluation.scores import Evaluation
from vitjax.prediction import Answer, name_of

ROWS = 30  # of a table that shows every class; with more classes it shows the WORST
WORST = 10
CONFUSIONS = 5


class ClassAccuracy(NamedTuple):
    """The share of the images of one class that are found as it, nan where there are none."""

    name: str
    top1: float
    images: int


class Confusion(NamedTuple):
    """How many images of one class are found as another."""

    truth: str
    found: str
    images: int


@dataclasses.dataclass(frozen=True)
class ClassScores:
    """`top1` and `top5` of all labelled images as shares in [0, 1], a row for every class, and the worst confusions.

    An image that could not be read counts in `images` as missed, and in its class only where that is known. Without
    images the shares are nan; so is `top5` where fewer than the five best classes were kept.
    """

    summary: dict[str, float]
    per_class: tuple[ClassAccuracy, ...]
    confusions: tuple[Confusion, ...]
    images: int

    by_class: ClassVar[dict[str, float]] = {}
    arrays: ClassVar[dict[str, np.ndarray]] = {}

    def table(self) -> str:
        """Text, shares in per cent: every class or the least accurate of many, then all, then the worst confusions."""
        rows, title = self.per_class, "class"
        if len(rows) > ROWS:
            title = f"class ({WORST} least accurate of {len(rows)})"
            rows = tuple(sorted((row for row in rows if row.images), key=lambda row: (row.top1, -row.images))[:WORST])
        width = max(len(title), *(len(row.name) for row in rows), len("all"))
        lines = [f"{title:<{width}}  images  top1 %  top5 %"]
        lines += [f"{name:<{width}}  {images:>6}  {_per_cent(top1):>6}" for name, top1, images in rows]
        top1, top5 = (_per_cent(self.summary[name]) for name in ("top1", "top5"))
        lines.append(f"{'all':<{width}}  {self.images:>6}  {top1:>6}  {top5:>6}")
        if self.confusions:
            pairs = [f"{truth} -> {found}" for truth, found, _ in self.confusions]
            width = max(len(pair) for pair in pairs)
            lines += ["", "most often confused (truth -> found), images"]
            lines += [f"{pair:<{width}}  {row.images}" for pair, row in zip(pairs, self.confusions, strict=True)]
        return "\n".join(lines)


def score_classes(answers: Sequence[Answer], classes: Classes) -> ClassScores:
    """Scores of what is labelled or could not be read; a class that the data does not have is a miss."""
    asked = [one for one in answers if len(one.truth) or one.prediction is None]
    truth = np.array([_label(one) for one in asked], np.int64)
    places = np.array([_rank(one) for one in asked], np.float64)
    counts = np.bincount(truth[truth >= 0], minlength=len(classes)).tolist()
    hits = np.bincount(truth[places == 0], minlength=len(classes)).tolist()
    rows = [
        ClassAccuracy(name_of(classes, label), hit / count if count else float("nan"), count)
        for label, (hit, count) in enumerate(zip(hits, counts, strict=True))
    ]
    enough = all(len(one.prediction) >= min(5, len(classes)) for one in asked if one.prediction is not None)
    summary = {"top1": _share(places < 1), "top5": _share(places < 5) if enough else float("nan")}
    return ClassScores(summary, tuple(rows), _confusions(asked, classes), len(asked))


def evaluate(answers: Iterable[Answer], source: Source) -> Evaluation:
    """Scores of the classes found on a source, and for each image that could be read its label and best classes."""
    answers = list(answers)
    results = [_result(one, source) for one in answers if one.prediction is not None]
    unreadable = tuple(source.name(one.record) for one in answers if one.prediction is None)
    return Evaluation(score_classes(answers, source.classes), results, unreadable)


def _label(one: Answer) -> int:
    """The label of a labelled image, -1 where it has none."""
    return int(one.truth[0]) if len(one.truth) else -1


def _rank(one: Answer) -> float:
    """How many classes were ranked before the true one; infinity where it was not found."""
    found: Any = [] if one.prediction is None else np.flatnonzero(one.prediction.labels == _label(one))
    return float(found[0]) if len(found) else float("inf")


def _share(hits: np.ndarray) -> float:
    return float(hits.mean()) if hits.size else float("nan")


def _confusions(asked: Sequence[Answer], classes: Classes) -> tuple[Confusion, ...]:
    pairs = Counter((_label(one), int(one.prediction.labels[0])) for one in asked if one.prediction is not None)
    wrong = [(count, pair) for pair, count in pairs.items() if pair[0] != pair[1]]
    worst = sorted(wrong, key=lambda entry: (-entry[0], entry[1]))[:CONFUSIONS]
    return tuple(Confusion(name_of(classes, a), name_of(classes, b), count) for count, (a, b) in worst)


def _result(one: Answer, source: Source) -> dict[str, Any]:
    """Plain Python, ready for json."""
    told: Any = one.prediction
    pairs = zip(told.names, told.scores.astype(np.float64).round(6).tolist(), strict=True)
    return {
        "image": np.asarray(source.image_ids[one.record]).item(),
        "label": name_of(source.classes, _label(one)) if len(one.truth) else None,
        "classes": [{"name": name, "score": score} for name, score in pairs],
    }


def _per_cent(share: float) -> str:
    return "-" if np.isnan(share) else f"{100 * share:.2f}"
