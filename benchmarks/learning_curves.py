"""Draw the evaluation scores of several runs over their steps, in one picture.

    python benchmarks/learning_curves.py runs/detr_tiny_digits runs/quickstart --out curves.png

Also prints, for each run, when it first reached the last score of the first run.
"""

import argparse
import sys
from pathlib import Path

from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from vitjax.training.report import read_metrics

Curve = list[tuple[int, float]]


def curve(run: Path, metric: str) -> Curve:
    """(step, score) of every evaluation, from nothing at step 0 on."""
    records = [record for record in read_metrics(run) if record["split"] == "val" and metric in record]
    if not records:
        sys.exit(f"{run} has no evaluation with {metric!r} in its metrics.jsonl")
    return [(0, 0.0), *((record["step"], record[metric]) for record in records)]


def reached(points: Curve, score: float) -> str:
    """When a curve first had a score, in words."""
    step = next((step for step, value in points if value >= score), None)
    return "never" if step is None else f"at step {step:,}"


def draw(curves: dict[str, Curve], metric: str, out: Path) -> None:
    """One line per run, and the first run's last score as a level."""
    figure = Figure(figsize=(8, 4.2), dpi=120, layout="constrained")
    axes = figure.subplots()
    for name, points in curves.items():
        axes.plot(*zip(*points, strict=True), marker="o", ms=4, linewidth=1.8, label=f"{name}  {points[-1][1]:.3f}")
    axes.axhline(next(iter(curves.values()))[-1][1], color="#888888", linewidth=1, linestyle=":")
    axes.set(xlabel="step", ylabel=metric, ylim=(0, 1))
    axes.set_xlim(left=0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, loc="lower right")
    figure.savefig(out)


def main() -> None:
    """Reads the runs, prints a line for each and draws them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", help="run folders; the first sets the mark")
    parser.add_argument("--metric", default="AP50", help="score to draw (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("curves.png"), help="picture (default: %(default)s)")
    options = parser.parse_args()
    curves = {run.name: curve(run, options.metric) for run in options.runs}
    mark = next(iter(curves.values()))[-1][1]
    for name, points in curves.items():
        last, score = points[-1]
        print(f"{name}: {options.metric} {score:.3f} at step {last:,}; {mark:.3f} {reached(points, mark)}")
    draw(curves, options.metric, options.out)
    print(f"wrote {options.out}")


if __name__ == "__main__":
    main()
