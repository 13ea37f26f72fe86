"""What a run keeps of its validations beside scores, and what it says of itself at its end."""

import dataclasses
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax

from vitjax.checkpoints.store import Store
from vitjax.data.source import Source
from vitjax.errors import VitjaxError
from vitjax.evaluation.checks import Baseline
from vitjax.evaluation.mistakes_report import mistake_lines
from vitjax.evaluation.scores import Evaluation
from vitjax.inference.mistakes_page import draw_mistakes
from vitjax.inference.page import draw_page
from vitjax.inference.task import Task
from vitjax.runs.judgement import (
    BASELINE,
    MISTAKES,
    THRESHOLDS,
    read_baseline,
    read_mistakes,
    with_best_threshold,
    write_json,
    write_points,
)
from vitjax.training.curves import plot_curves, write_arrays, write_summary
from vitjax.training.faults import summary
from vitjax.training.interruption import Interrupted, answering
from vitjax.training.prepare import Prepared
from vitjax.training.watch import NOT_FINITE, UNREADABLE

if TYPE_CHECKING:
    from vitjax.training.loop import Outcome


def keep_validation(
    run: Prepared, store: Store, workdir: Path, step: int, scores: Mapping[str, float], evaluation: Evaluation
) -> None:
    """Keeps what a validation says: with the checkpoint its scores, and beside it thresholds, curves and mistakes.

    The scores come late, for a run that is ended before them validates again.
    """
    task, source = run.sweep.task, run.evaluation_source
    _keep_points(workdir, task, step, evaluation, store.steps())
    _keep_baseline(workdir, task, evaluation, source)
    write_arrays(workdir, evaluation.scores.arrays)
    store.annotate(step, scores)
    if step == store.best_step():
        _keep_mistakes(workdir, task, step, evaluation, source)


def keep_constant(workdir: Path, task: Task, source: Source, *, fresh: bool) -> None:
    """Keeps the constant answer that is made from the training split; what it scores stays where it is the same.

    Of a `fresh` run nothing is kept that an earlier one in its folder has left.
    """
    for name in (THRESHOLDS, BASELINE, MISTAKES, UNREADABLE, NOT_FINITE) if fresh else ():
        (workdir / name).unlink(missing_ok=True)
    constant = task.checks.constant(source)
    if constant is not None and (_read(read_baseline, workdir) or {}).get("constant") != constant:
        write_json(workdir / BASELINE, {"constant": constant})


def report(run: Prepared, variables: dict[str, Any], workdir: Path, outcome: "Outcome", seconds: float) -> None:
    """Writes `report/` at the end of a run, and says what is in it and what it comes to.

    There are curves, a page of predictions of the last checkpoint, mistakes of the best one, and a summary.
    """
    source, best = run.evaluation_source, outcome.best or outcome.last
    task = _showing(run.sweep.task, workdir, outcome.step)
    pictures = plot_curves(workdir, *task.about.curves)
    page = workdir / "report" / "predictions.png"
    draw_page(run.sweep, variables, source, page, batch_size=run.evaluation_batch_size, task=task)
    mistakes, baseline = _read(read_mistakes, workdir), _scored_baseline(workdir)
    extras: dict[str, Any] = {"steps": outcome.step, "seconds": seconds, "device": jax.devices()[0].device_kind}
    faults = summary(workdir)
    extras |= faults
    lines = [f"{name.replace('_', ' ')}: {count:,}" for name, count in faults.items()]
    if mistakes is not None:
        try:
            pictures += draw_mistakes(mistakes, source, page.parent)
            lines += [f"validation of step {mistakes['step']:,}:", *mistake_lines(mistakes)]
            extras["threshold"] = mistakes["threshold"]
        except (LookupError, TypeError, ValueError):
            lines.append(f"{workdir / MISTAKES} is of another version of vitjax, and is left out")
    if baseline is not None:
        lines += baseline.lines(best)
        extras |= baseline.summary
    path = write_summary(workdir, outcome.last, outcome.best, **extras)
    print("report: " + ", ".join(str(path) for path in (*pictures, page, path)), *lines, sep="\n", flush=True)


def _keep_points(workdir: Path, task: Task, step: int, evaluation: Evaluation, steps: Collection[int]) -> None:
    """Writes from which score on the boxes of a step are best, beside those of the `steps` that are kept."""
    points = task.checks.points(evaluation)
    if points is not None or (workdir / THRESHOLDS).exists():
        write_points(workdir, step, points, steps)


def _keep_mistakes(workdir: Path, task: Task, step: int, evaluation: Evaluation, source: Source) -> None:
    """Writes what the best checkpoint does wrong."""
    mistakes = task.checks.mistakes(evaluation, source, getattr(task.postprocess, "threshold", 0.0))
    if mistakes is not None:
        write_json(workdir / MISTAKES, {"step": step, **mistakes})


def _keep_baseline(workdir: Path, task: Task, evaluation: Evaluation, source: Source) -> None:
    """Writes what the constant answer scores on the evaluation split, once."""
    content = _read(read_baseline, workdir)
    if content and "constant" in content and "scores" not in content:
        baseline = task.checks.baseline(content["constant"], evaluation, source)
        scores = {name: score if math.isfinite(score) else None for name, score in baseline.scores.items()}
        write_json(workdir / BASELINE, {**content, "answer": baseline.answer, "scores": scores})


def _showing(task: Any, workdir: Path, step: int) -> Any:
    """The task that shows what `predict` will show with the checkpoint of a step."""
    return dataclasses.replace(task, postprocess=with_best_threshold(task.postprocess, workdir, step)[0])


def _scored_baseline(workdir: Path) -> Baseline | None:
    """What the constant answer scores on the evaluation split, None where there is nothing to score."""
    content = _read(read_baseline, workdir) or {}
    answer, found = content.get("answer"), content.get("scores")
    named = found.items() if isinstance(found, dict) else ()
    scores = {name: score for name, score in named if isinstance(score, int | float)}
    return Baseline(answer, scores) if scores and isinstance(answer, str) else None


def _read(read: Callable[[Path], dict[str, Any] | None], workdir: Path) -> dict[str, Any] | None:
    """What a run keeps, None also where it is damaged, for then it is written anew."""
    try:
        return read(workdir)
    except VitjaxError:
        return None


def is_reported(signals: Sequence[int], work: Callable[[], None]) -> bool:
    """Whether the report was written, and not given up for a signal."""
    try:
        answering(signals, work)
    except Interrupted:
        print("stopped while the report was written; the same command writes it", flush=True)
        return False
    return True
