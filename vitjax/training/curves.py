"""What a run leaves in `report/`: curves, arrays and a summary."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, SupportsFloat

import numpy as np

from vitjax.checkpoints.writing import replace_file, replace_text
from vitjax.training.report import plain, read_metrics

TOTAL = "loss"
LEARNING_RATE = "learning_rate"
COLORS = ("#1f2937", "#2563eb", "#ea580c", "#059669", "#9333ea", "#db2777", "#ca8a04", "#0891b2")
# Scalars of a training step that are no term of the loss, and terms of single decoder layers, such as `box_3`.
_NO_TERM = re.compile(rf"step|split|{TOTAL}|{LEARNING_RATE}|gradient_norm|images_per_second|seconds|.*_error|.*_\d+")


def plot_curves(workdir: Path, file: str, scores: Sequence[str]) -> list[Path]:
    """Draws `report/loss.png` (total, terms, learning rate) and `report/<file>` of some scores from metrics.jsonl.

    Gives their paths. A picture for which nothing finite was logged is left out. Raises as `read_metrics`.
    """
    records = read_metrics(workdir)
    train, val = ([record for record in records if record["split"] == split] for split in ("train", "val"))
    folder = workdir / "report"
    folder.mkdir(parents=True, exist_ok=True)
    pictures = []
    if _series(train, TOTAL)[1]:
        pictures.append(_plot_loss(train, folder / "loss.png"))
    if any(_series(val, name)[1] for name in scores):
        pictures.append(_plot_scores(val, scores, folder / file))
    return pictures


def _plot_loss(records: Sequence[Mapping[str, Any]], path: Path) -> Path:
    from matplotlib.figure import Figure

    names = [TOTAL, *dict.fromkeys(name for record in records for name in record if not _NO_TERM.fullmatch(name))]
    rate_steps, rates = _series(records, LEARNING_RATE)
    figure = Figure(figsize=(8, 5.6 if rates else 4.6), dpi=120, layout="constrained")
    ratios = [4, 1] if rates else [1]
    panels = figure.subplots(len(ratios), sharex=True, height_ratios=ratios, squeeze=False)[:, 0]
    everything = []
    for name, color in zip(names, COLORS, strict=False):
        steps, values = _series(records, name)
        if not values:
            continue
        everything += values
        smooth, thick = _smoothed(values), 2.2 if name == TOTAL else 1.4
        panels[0].plot(steps, values, color=color, linewidth=0.8, alpha=0.3)
        panels[0].plot(steps, smooth, color=color, linewidth=thick, label=f"{name}  {smooth[-1]:.3g}")
    title = "Training loss"
    if min(everything) > 0 and max(everything) > 10 * min(everything):
        panels[0].set_yscale("log")
        panels[0].yaxis.set_major_formatter("{x:g}")
        title += " (log scale)"
    else:
        panels[0].set_ylim(bottom=min([0.0, *everything]))
    _style(panels[0], title)
    panels[0].legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    if rates:
        panels[1].plot(rate_steps, rates, color="#555555", linewidth=1.4)
        panels[1].set_ylim(0, 1.15 * max(rates) or 1)
        panels[1].ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
        _style(panels[1], "Learning rate")
    panels[-1].set_xlabel("step")
    replace_file(path, figure.savefig)
    return path


def _plot_scores(records: Sequence[Mapping[str, Any]], names: Sequence[str], path: Path) -> Path:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.6), dpi=120, layout="constrained")
    axes = figure.subplots()
    highest = 0.0
    for name, color in zip(names, COLORS, strict=False):
        steps, values = _series(records, name)
        if not values:
            continue
        best = max(range(len(values)), key=values.__getitem__)
        highest = max(highest, values[best])
        label = f"{name}  best {values[best]:.3f} at {steps[best]:,}"
        axes.plot(steps, values, color=color, linewidth=1.8, label=label, marker="o" if len(values) <= 40 else "", ms=4)
        axes.plot(steps[best], values[best], color=color, marker="*", markersize=13, markeredgecolor="white")
    room = max(1.15 * highest, 0.05)
    axes.set_ylim(0, min(1.02, room) if highest <= 1 else room)  # most scores are shares
    _style(axes, "Validation")
    axes.set_xlabel("step")
    figure.legend(loc="outside lower center", ncols=len(names), frameon=False)
    replace_file(path, figure.savefig)
    return path


def _style(axes: Any, title: str) -> None:
    axes.set_title(title, loc="left", fontsize=11, fontweight="bold")
    axes.grid(alpha=0.25, linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlim(left=0)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.xaxis.set_major_formatter("{x:,.0f}")


def _series(records: Sequence[Mapping[str, Any]], name: str) -> tuple[list[int], list[float]]:
    """The steps and values of a metric, where it was logged and finite."""
    points = [(record["step"], record[name]) for record in records if math.isfinite(record.get(name, math.nan))]
    return [step for step, _ in points], [value for _, value in points]


def _smoothed(values: Sequence[float]) -> list[float]:
    """The running mean over about a thirtieth of the curve, of which the beginning is not biased."""
    keep = max(0.0, 1 - 30 / max(len(values), 1))
    smooth, total, weight = [], 0.0, 0.0
    for value in values:
        total, weight = keep * total + value, keep * weight + 1
        smooth.append(total / weight)
    return smooth


def write_summary(
    workdir: Path, last: Mapping[str, SupportsFloat], best: Mapping[str, SupportsFloat], **extras: Any
) -> Path:
    """Writes `report/summary.json` of {"last": metrics, "best": metrics, extras...}, null for NaN; gives its path."""
    path = workdir / "report" / "summary.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    summary = plain({"last": last, "best": best, **extras})
    replace_text(path, json.dumps(summary, indent=2, allow_nan=False) + "\n")
    return path


def write_arrays(workdir: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes `report/precision_recall.npz`, where there are any."""
    if arrays:
        path = workdir / "report" / "precision_recall.npz"
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, lambda file: np.savez_compressed(file, allow_pickle=False, **arrays))
