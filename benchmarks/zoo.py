"""Make the table of docs/zoo.md: what each attention adds to a ResNet, what it costs, and what it brings on digits.

    python benchmarks/zoo.py --runs runs/zoo --seeds 0 1 2

Trains every config `zoo_*_digits` with every seed, one after the other, unless its run is there already, then times
forward passes and training steps of all of them. Repetitions alternate between the models, so that other work on the
machine slows all of them alike: read the ratios. Without `--runs` nothing is trained.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from vitjax.backbones import ResNet, SpatiallyTransformed
from vitjax.data.loader import load
from vitjax.ops.images import images_of
from vitjax.placement import place_batch
from vitjax.runs.configs import load_config, names
from vitjax.training.prepare import count, prepare
from vitjax.training.report import read_metrics
from vitjax.training.state import variables_of

HOUSE = Path(__file__).resolve().parent.parent
PLAIN = "zoo_plain_digits"
START, END = "<!-- table: begin -->", "<!-- table: end -->"


class Row(NamedTuple):
    """A config, what is known of its model without timing it, and two compiled programs to be timed."""

    name: str
    in_resnet: bool  # whether it is the plain network with a module, and no network of its own
    parameters: int
    flops: float  # of one image's forward pass
    forward: Callable[[], Any]
    train: Callable[[], Any]


def configs() -> list[str]:
    """The plain network first, then the zoo in alphabetical order."""
    return [
        PLAIN,
        *(name for name in names() if name.startswith("zoo_") and name.endswith("_digits") and name != PLAIN),
    ]


def row(name: str) -> Row:
    """Compiles a config's forward pass and training step for its first batch."""
    prepared = prepare(load_config(name).experiment)
    batch = place_batch(load(prepared.train_source, prepared.plan(0), max_objects=1), prepared.mesh)
    model, state = prepared.experiment.model, prepared.state
    variables = jax.device_get(variables_of(state, prepared.experiment.optimizer))  # a training step consumes the state
    forward = jax.jit(lambda variables, batch: model.apply(variables, images_of(batch), train=False))
    compiled = forward.lower(variables, batch).compile()
    parameters = count(state.trainable) + count(state.frozen)
    flops = compiled.cost_analysis()["flops"] / len(batch.records)
    kept = [state]

    def train() -> None:
        kept[0] = jax.block_until_ready(prepared.train_step(kept[0], batch))[0]

    in_resnet = isinstance(getattr(model, "backbone", None), ResNet | SpatiallyTransformed)
    return Row(name, in_resnet, parameters, flops, lambda: jax.block_until_ready(compiled(variables, batch)), train)


def timed(calls: list[Callable[[], Any]], repetitions: int) -> list[list[float]]:
    """Seconds of each call, all once a round in an order by chance; two rounds before warm up."""
    seconds: list[list[float]] = [[] for _ in calls]
    random = np.random.default_rng(0)
    for _ in range(repetitions + 2):
        for place in random.permutation(len(calls)):
            start = time.perf_counter()
            calls[place]()
            seconds[place].append(time.perf_counter() - start)
    return [kept[2:] for kept in seconds]


def accuracy(runs: Path, name: str, seed: int) -> float:
    """Top-1 at the end of a run, in per cent; the run is trained if it is not there."""
    run = runs / f"{name}_{seed}"
    if not (run / "report" / "summary.json").exists():
        command = [sys.executable, str(HOUSE / "train.py"), name, "--seed", str(seed), "--workdir", str(run)]
        print(" ".join(command[1:]), flush=True)
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return 100 * [record["top1"] for record in read_metrics(run) if "top1" in record][-1]


def table(rows: list[Row], scores: dict[str, list[float]], repetitions: int) -> str:
    """The table as Markdown; ratios are medians over those of the plain network."""
    forward = [statistics.median(kept) for kept in timed([one.forward for one in rows], repetitions)]
    train = [statistics.median(kept) for kept in timed([one.train for one in rows], repetitions)]
    lines = [
        "| config | parameters | added | MFLOPs an image | forward | training step | top-1 %, by seed | mean |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for place, one in enumerate(rows):
        kept = scores.get(one.name, [])
        cells = [
            f"`{one.name}`",
            f"{one.parameters:,}",
            f"{one.parameters - rows[0].parameters:+,}" if place and one.in_resnet else "",
            f"{one.flops / 1e6:.1f}",
            f"{forward[place] / forward[0]:.2f}x",
            f"{train[place] / train[0]:.2f}x",
            ", ".join(f"{score:.1f}" for score in kept) or "-",
            f"{statistics.mean(kept):.1f}" if kept else "-",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    milliseconds = f"{1e3 * forward[0]:.1f} ms forward and {1e3 * train[0]:.1f} ms a training step"
    batch = load_config(PLAIN).experiment.batch_size
    lines += ["", f"The plain network takes {milliseconds} for {batch} images."]
    return "\n".join(lines)


def main() -> None:
    """Print the table, and write it into a document if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, help="folder of the runs; without it nothing is trained")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", nargs="+", help="these configs and the plain one")
    parser.add_argument("--repetitions", type=int, default=10)
    parser.add_argument("--write", type=Path, help=f"a document that has the lines {START} and {END}")
    options = parser.parse_args()
    chosen = [name for name in configs() if options.only is None or name in {PLAIN, *options.only}]
    scores = {}
    if options.runs:
        scores = {name: [accuracy(options.runs, name, seed) for seed in options.seeds] for name in chosen}
    device, cores = jax.devices()[0], len(os.sched_getaffinity(0))
    where = f"{device.device_kind} ({device.platform}), {cores} cores, jax {jax.__version__}"
    text = f"{table([row(name) for name in chosen], scores, options.repetitions)} Measured on: {where}.\n"
    print(text)
    if options.write:
        before, _, rest = options.write.read_text().partition(START)
        options.write.write_text(f"{before}{START}\n{text}{END}{rest.partition(END)[2]}")


if __name__ == "__main__":
    main()
