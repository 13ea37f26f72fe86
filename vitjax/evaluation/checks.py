"""Whether a model is any good: what tells more than scores, for each task by a file of its own."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

from vitjax.data.source import Source
from vitjax.errors import VitjaxError
from vitjax.evaluation.scores import Evaluation
from vitjax.prediction import name_of


class Baseline(NamedTuple):
    """What a constant answer is, in words, and what it scores, by the names of the model's scores.

    A model that is not above it does not see the images.
    """

    answer: str
    scores: dict[str, float]

    @property
    def summary(self) -> dict[str, float]:
        """The scores under names of their own: "baseline AP"."""
        return {f"baseline {name}": score for name, score in self.scores.items()}

    def lines(self, scores: Mapping[str, float | int]) -> tuple[str, ...]:
        """What it is and scores, and a sentence where the model, which has `scores`, is not above it."""
        told = ", ".join(f"{name} {score:.3f}" for name, score in self.scores.items())
        lines = [f"baseline, {self.answer}: {told}"]
        known = {name: (scores.get(name, math.nan), score) for name, score in self.scores.items()}
        worse = [f"{name} {own:.3f} against {score:.3f}" for name, (own, score) in known.items() if own <= score]
        if worse:
            lines.append(
                f"The model is not better than a constant answer: {', '.join(worse)}. It may not look at the image at "
                "all: start from pre-trained weights (--init-from), or train longer."
            )
        return tuple(lines)


class Checks(Protocol):
    """What is asked of a task; `box_checks`, `class_checks` and `label_checks` are such."""

    def constant(self, source: Any) -> dict[str, Any] | None:
        """The best answer that does not look at the image, made from a training source, as json; None where unknown."""
        ...

    def baseline(self, constant: Mapping[str, Any], evaluation: Evaluation, source: Any) -> Baseline:
        """What such an answer scores on the source of an evaluation.

        Raises:
            VitjaxError: it is no such answer.
        """
        ...

    def points(self, evaluation: Evaluation) -> dict[str, Any] | None:
        """From which score on predictions are best shown, as json; None where nothing is left out."""
        ...

    def mistakes(self, evaluation: Evaluation, source: Any, threshold: float) -> dict[str, Any] | None:
        """What is wrong beside the scores, as json; None where the scores say it.

        The threshold is taken where no score is best.
        """
        ...


def most_frequent(counts: Any, source: Source) -> dict[str, Any] | None:
    """The label that is counted most often, as json; None where none is."""
    label = int(counts.argmax())
    return {"label": label, "name": name_of(source.classes, label)} if counts[label] else None


def label_of(constant: Mapping[str, Any], classes: int) -> int:
    """The label that a constant answer gives.

    Raises:
        VitjaxError: it has none of so many classes.
    """
    label = constant.get("label")
    if not isinstance(label, int) or not 0 <= label < classes:
        raise VitjaxError(f"a constant answer has a label below {classes}; got {label!r}.")
    return label
