"""What a run keeps beside its checkpoints to use and to judge them by: thresholds, a constant answer, mistakes."""

import dataclasses
import json
import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from vitjax.checkpoints.writing import replace_text
from vitjax.errors import VitjaxError

THRESHOLDS = "thresholds.json"
"""By the step of every checkpoint that is scored and kept: from which score on its boxes have the best F1."""
BASELINE = "baseline.json"
"""The constant answer that is made from the training split."""
MISTAKES = "report/mistakes.json"
"""What the best checkpoint does wrong on the evaluation split."""


def write_points(run: Path, step: int, points: Mapping[str, Any] | None, steps: Collection[int]) -> None:
    """Keeps the thresholds of a step, with those of other `steps`, and lets go all others; None says there are none."""
    try:
        kept = _read(run / THRESHOLDS) or {}
    except VitjaxError:  # it is written anew
        kept = {}
    kept = {key: value for key, value in kept.items() if key in map(str, steps)} | {str(step): points}
    write_json(run / THRESHOLDS, kept)


def read_threshold(run: Path, step: int) -> float | None:
    """The score with the best F1 of the checkpoint of a step; None where the run keeps none.

    Raises:
        VitjaxError: what it keeps cannot be read, or is no score.
    """
    points = (_read(run / THRESHOLDS) or {}).get(str(step))
    if points is None:
        return None
    threshold = points.get("threshold") if isinstance(points, dict) else None
    if not isinstance(threshold, float | int) or not (math.isfinite(threshold) and 0 <= threshold <= 1):
        raise VitjaxError(
            f"{run / THRESHOLDS} has no score from 0 to 1 as threshold of step {step}, got {threshold!r}."
        )
    return float(threshold)


def with_best_threshold(postprocess: Any, run: Path, step: int) -> tuple[Any, str]:
    """The post-processing that shows boxes from the best F1 on, and in words where its threshold comes from.

    What a run says itself, other than the default, stays; so does what has no threshold, of which nothing is said.
    """
    if (
        not dataclasses.is_dataclass(postprocess)
        or isinstance(postprocess, type)
        or not hasattr(postprocess, "threshold")
    ):
        return postprocess, ""
    default = getattr(type(postprocess), "threshold", None)
    if postprocess.threshold != default:
        return postprocess, "as the run's postprocess.threshold says"
    try:
        threshold = read_threshold(run, step)
    except VitjaxError:
        return postprocess, f"the default, for {run / THRESHOLDS} cannot be read"
    if threshold is None:
        return postprocess, "the default, for the run keeps no better one of this checkpoint"
    return dataclasses.replace(postprocess, threshold=threshold), "which had the best F1 in its validation"


def read_baseline(run: Path) -> dict[str, Any] | None:
    """The constant answer of a run, None where it keeps none.

    Raises:
        VitjaxError: it cannot be read.
    """
    return _read(run / BASELINE)


def read_mistakes(run: Path) -> dict[str, Any] | None:
    """The mistakes of a run's best checkpoint, None where it keeps none.

    Raises:
        VitjaxError: they cannot be read.
    """
    return _read(run / MISTAKES)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Writes a file as a whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_text(path, json.dumps(content, allow_nan=False) + "\n")


def _read(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError, OSError) as error:
        raise VitjaxError(f"{path} cannot be read ({error}); the next validation writes it anew.") from error
    if not isinstance(content, dict):
        raise VitjaxError(f"{path} holds no object but {type(content).__name__}; the next validation writes it anew.")
    return content
