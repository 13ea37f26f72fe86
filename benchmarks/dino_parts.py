"""What each part of DINO brings: AP by step on the quickstart's scenes, at the quickstart's width and layers.

    python benchmarks/dino_parts.py --runs runs/dino_parts --jobs 6 --out dino_parts.png

Trains every variant with every seed, each in a process of its own, so many at once, unless its run is there already;
writes the scores as JSON, to the folder of the runs, and a picture. Compiled programs are shared between the processes:
the first seed of every variant runs first. On a GPU no process takes more memory than it needs.
"""

import argparse
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

HOUSE = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(HOUSE))

DINO_IS = "DINO"
VARIANTS: dict[str, dict[str, Any]] = {  # name of a run's folder -> what it is called, and fields of the model
    "dino": {"title": DINO_IS},
    "no_denoising": {"title": "without denoising", "denoising": 0},
    "no_mixed_selection": {"title": "without mixed selection", "mixed_selection": False},
    "look_once": {"title": "looking forward once", "look_forward_twice": False},
    "any_label": {"title": "denoising without labels", "label_noise": 2.0},
    "two_stage": {"title": "Deformable DETR, two stages", "two_stage": True},
    "deformable": {"title": "Deformable DETR"},
}
OLD = ("two_stage", "deformable")  # those that are no DINO
DENOISING = 20  # objects in the groups of a scene, which has up to 3
Scores = dict[str, dict[str, list[tuple[int, float]]]]  # of a variant, of a seed: step and AP


def experiment_of(variant: str, seed: int, epochs: float, evaluate_every: float) -> Any:
    """The quickstart with another model, and its loss."""
    from vitjax.detection import DINO, DINOLoss
    from vitjax.runs.configs import load_config

    quickstart: Any = load_config("quickstart").experiment
    changes = {name: value for name, value in VARIANTS[variant].items() if name != "title"}
    run = {"seed": seed, "epochs": epochs, "evaluate_every": evaluate_every, "save_every": epochs}
    if variant in OLD:
        return dataclasses.replace(quickstart, model=quickstart.model.clone(**changes), **run)
    names = {field.name for field in dataclasses.fields(DINO)} - {"parent", "name"}
    shared = {name: getattr(quickstart.model, name) for name in names if hasattr(quickstart.model, name)}
    model = DINO(**{**shared, "denoising": DENOISING, **changes})
    return dataclasses.replace(quickstart, model=model, loss=DINOLoss(), **run)


def start(variant: str, seed: int, options: argparse.Namespace) -> float:
    """Trains one run in a process of its own, unless it is there or time is up; gives its seconds."""
    run, left = options.runs / f"{variant}_{seed}", options.until - time.monotonic()
    if left <= 0 or (run / "report" / "summary.json").exists():
        return 0.0
    run.parent.mkdir(parents=True, exist_ok=True)
    words = [sys.executable, __file__, "--runs", str(options.runs), "--one", variant, str(seed)]
    words += ["--epochs", str(options.epochs), "--evaluate-every", str(options.evaluate_every)]
    kept = {"JAX_COMPILATION_CACHE_DIR": str(options.runs.resolve() / "compiled"), **os.environ}
    began = time.monotonic()
    with (run.parent / f"{run.name}.log").open("w") as log:
        streams: dict[str, Any] = {"stdout": log, "stderr": subprocess.STDOUT}
        try:
            environment = {**kept, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
            failed = subprocess.run(words, env=environment, timeout=min(left, 1e6), **streams).returncode
            how = "FAILED, see its log," if failed else "done"
        except subprocess.TimeoutExpired:
            how = "stopped, time is up,"
    seconds = time.monotonic() - began
    print(f"{run.name}: {how} in {seconds:.0f} s", flush=True)
    return seconds


def scores_of(runs: Path, chosen: list[str], seeds: list[int]) -> Scores:
    """What runs have scored so far; those that there are not are left out."""
    from vitjax.training.report import read_metrics

    found: Scores = {}
    for variant in chosen:
        folders = {str(seed): runs / f"{variant}_{seed}" for seed in seeds}
        found[variant] = {
            seed: [(one["step"], one["AP"]) for one in read_metrics(run) if one["split"] == "val" and "AP" in one]
            for seed, run in folders.items()
            if (run / "metrics.jsonl").exists()
        }
    return found


def draw(scores: Scores, out: Path) -> None:
    """The mean over seeds of every variant, between the worst and the best of them."""
    figure = Figure(figsize=(8, 4.6), dpi=120, layout="constrained")
    axes = figure.subplots()
    for variant, by_seed in scores.items():
        rows = [dict([(0, 0.0), *curve]) for curve in by_seed.values() if curve]
        steps = sorted(set.intersection(*(set(row) for row in rows))) if rows else []
        if not steps:
            continue
        columns = [[row[step] for row in rows] for step in steps]
        means = [statistics.mean(column) for column in columns]
        style = {"linestyle": "--"} if variant in OLD else {}
        title = f"{VARIANTS[variant]['title']}  {means[-1]:.3f}"
        (line,) = axes.plot(steps, means, marker="o", ms=3.5, linewidth=2.4 if variant == "dino" else 1.5, **style)
        line.set_label(title)
        axes.fill_between(steps, [*map(min, columns)], [*map(max, columns)], color=line.get_color(), alpha=0.12, lw=0)
    axes.set(xlabel="step", ylabel="AP, mean and range over seeds", ylim=(0, 1))
    axes.set_xlim(left=0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, loc="lower right")
    figure.savefig(out)


def table(scores: Scores) -> str:
    """The AP of every variant at every step that is evaluated, as Markdown: mean, and the last one of each seed."""
    steps = sorted({step for by_seed in scores.values() for curve in by_seed.values() for step, _ in curve})
    lines = [f"| model | {' | '.join(f'step {step:,}' for step in steps)} | last, by seed |"]
    lines += ["|---" * (len(steps) + 2) + "|"]
    for variant, by_seed in scores.items():
        cells = []
        for step in steps:
            found = [score for curve in by_seed.values() for at, score in curve if at == step]
            cells.append(f"{statistics.mean(found):.3f}" if found else "-")
        last = ", ".join(f"{curve[-1][1]:.3f}" for curve in by_seed.values() if curve)
        lines.append(f"| {VARIANTS[variant]['title']} | {' | '.join(cells)} | {last or '-'} |")
    return "\n".join(lines)


def main() -> None:
    """Trains what is missing, then writes scores and picture and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", nargs="+", choices=[*VARIANTS], default=[*VARIANTS], help="these variants")
    parser.add_argument("--jobs", type=int, default=1, help="runs at once (default: %(default)s)")
    parser.add_argument("--epochs", type=float, default=1.5, help="as in the quickstart (default: %(default)s)")
    parser.add_argument("--evaluate-every", type=float, default=0.125, help="epochs (default: %(default)s)")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="when to stop and tell what there is")
    parser.add_argument("--out", type=Path, help="picture; scores.png in the folder of the runs if left out")
    parser.add_argument("--one", nargs=2, metavar=("VARIANT", "SEED"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        from vitjax.training.loop import train

        variant, seed = options.one[0], int(options.one[1])
        run = experiment_of(variant, seed, options.epochs, options.evaluate_every)
        train(run, options.runs / f"{variant}_{seed}")
        return
    began = time.monotonic()
    options.until = began + 60 * options.minutes
    with ThreadPoolExecutor(options.jobs) as pool:
        pairs = [(variant, seed) for seed in options.seeds for variant in options.only]
        seconds = list(pool.map(lambda pair: start(*pair, options), pairs))
    scores = scores_of(options.runs, options.only, options.seeds)
    took = {f"{variant}_{seed}": round(one, 1) for (variant, seed), one in zip(pairs, seconds, strict=True) if one}
    told = {"scores": scores, "seconds": took, "jobs": options.jobs, "epochs": options.epochs}
    (options.runs / "scores.json").write_text(json.dumps(told))
    draw(scores, options.out or options.runs / "scores.png")
    print(table(scores))
    print(f"{time.monotonic() - began:.0f} s in all")


if __name__ == "__main__":
    main()
