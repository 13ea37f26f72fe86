"""Whether a model is any good: what it does wrong on a split, and whether it is better than a constant answer."""

import dataclasses
import sys
from pathlib import Path
from typing import Any, NamedTuple

from vitjax.data.layouts import named_as
from vitjax.data.source import Classes, Source
from vitjax.errors import VitjaxError
from vitjax.evaluation.checks import Baseline
from vitjax.evaluation.scores import Evaluation
from vitjax.inference.task import Task
from vitjax.runs.judgement import read_baseline
from vitjax.runs.run_folder import run_and_step


class Judgement(NamedTuple):
    """Lines for people, scores that belong beside the model's, and its mistakes as json where the task has such."""

    lines: tuple[str, ...]
    scores: dict[str, float]
    mistakes: dict[str, Any] | None


def judgement(model: str, task: Task, evaluation: Evaluation, source: Source, data: Any) -> Judgement:
    """What an evaluation says beside its scores.

    The constant answer is the one that the run of the `model` keeps, else it is made from the training split of the
    `data`; where neither can be had, a line says so.
    """
    mistakes = task.checks.mistakes(evaluation, source, getattr(task.postprocess, "threshold", 0.0))
    lines: tuple[str, ...] = ()
    scores: dict[str, float] = {}
    if mistakes is not None:
        from vitjax.evaluation.mistakes_report import mistake_lines

        lines = mistake_lines(mistakes)
        scores = {name: mistakes["points"][key] for name, key in (("F1", "f1"), ("threshold", "threshold"))
                  if mistakes["points"]}  # fmt: skip
    try:
        baseline = _baseline(model, task, evaluation, source, data)
    except VitjaxError as error:
        return Judgement((*lines, f"no baseline: {error}"), scores, mistakes)
    if baseline is None:
        return Judgement(lines, scores, mistakes)
    told = baseline.lines(evaluation.scores.summary)
    return Judgement((*lines, *told), {**scores, **baseline.summary}, mistakes)


def _baseline(model: str, task: Task, evaluation: Evaluation, source: Source, data: Any) -> Baseline | None:
    kept = read_baseline(run_and_step(Path(model))[0]) or {}
    constant = kept.get("constant")
    if constant is None:
        print(f"looking at the split {data.train_split!r} for a constant answer", file=sys.stderr)
        constant = task.checks.constant(_training(data, source.classes))
    return None if constant is None else task.checks.baseline(constant, evaluation, source)


def _training(data: Any, classes: Classes) -> Source:
    """The training split of the data, with the labels of the evaluation split; its images are not looked at.

    Raises:
        DataError: it cannot be opened, or has other classes.
    """
    if hasattr(data, "check_images"):
        data = dataclasses.replace(data, check_images=False)
    source = named_as(data.open(data.train_split), data, classes)
    classes.require(source.classes, f"the split {data.train_split!r}")
    return source
