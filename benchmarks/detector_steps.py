"""Time compilation and training steps of detectors beside each other, by the names of their configs.

    python benchmarks/detector_steps.py deformable_detr_resnet50_two_stage_coco dino_resnet50_4scale_coco

Steps alternate between the models, so that other work on the machine slows all of them alike: read the ratios. Seconds
are CPU seconds of the process where that is the device, else seconds. Weights, pixels and boxes are random.
"""

import argparse
import dataclasses
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from vitjax.batch import Batch, Targets
from vitjax.placement import data_mesh, place_batch, place_state
from vitjax.runs.configs import load_config
from vitjax.training.first_weights import first_variables
from vitjax.training.state import initial_state
from vitjax.training.steps import make_train_step

DEFAULTS = ("deformable_detr_resnet50_two_stage_coco", "dino_resnet50_4scale_coco")


def random_batch(images: int, height: int, width: int, objects: int, classes: int) -> Batch:
    """Noise for images, each with so many objects somewhere."""
    rng = np.random.default_rng(0)
    sizes = np.tile(np.int32([height, width]), (images, 1))
    centres, sides = rng.uniform(0.3, 0.7, (2, images, objects, 2)).astype(np.float32)
    labels = rng.integers(classes, size=(images, objects), dtype=np.int32)
    targets = Targets(np.concatenate([centres, sides / 2], -1), labels, np.ones((images, objects), bool))
    rows = np.arange(images, dtype=np.int32)
    pixels = rng.integers(256, size=(images, height, width, 3), dtype=np.uint8)
    return Batch(pixels, sizes, targets, rows, sizes, np.full(images, -1, np.int32))


def training(name: str, shape: tuple[int, int, int], objects: int) -> Callable[[], Any]:
    """A function that takes one step of a config's training, the next each time it is called."""
    experiment: Any = load_config(name).experiment
    model = experiment.model.clone(num_classes=experiment.model.num_classes or 10)
    experiment = dataclasses.replace(experiment, model=model)
    mesh, optimizer = data_mesh(), experiment.optimizer.for_batch_size(experiment.batch_size)
    variables = first_variables(model, seed=0)
    trainable, _ = optimizer.partition(variables["params"])
    transformation = optimizer.transformation(trainable, 1000, 100)
    step = make_train_step(experiment.objective(mesh), optimizer, transformation, mesh)
    state = place_state(initial_state(variables, optimizer, transformation, 0), mesh)
    parts = [place_batch(random_batch(*shape, objects, model.num_classes), mesh)]

    def turn() -> Any:
        nonlocal state
        state, metrics = step(state, parts)
        return jax.block_until_ready(metrics)

    return turn


def seconds(turn: Callable[[], Any]) -> float:
    """What one call takes."""
    clock = time.process_time if jax.default_backend() == "cpu" else time.perf_counter
    began = clock()
    turn()
    return clock() - began


def main() -> None:
    """Prints a table: seconds of compilation and of a step, and both as ratios to the first model's."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("configs", nargs="*", default=DEFAULTS, help="names of configs")
    parser.add_argument("--images", type=int, default=1, help="images of a step (default: %(default)s)")
    parser.add_argument("--size", type=int, nargs=2, default=(480, 640), help="height and width (default: 480 640)")
    parser.add_argument("--objects", type=int, default=7, help="objects of an image (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=7, help="steps of each, alternating (default: %(default)s)")
    options = parser.parse_args()
    shape = (options.images, *options.size)
    turns = {name: training(name, shape, options.objects) for name in options.configs}
    first = {name: seconds(turn) for name, turn in turns.items()}
    rounds = [{name: seconds(turn) for name, turn in turns.items()} for _ in range(options.steps)]
    step = {name: statistics.median(row[name] for row in rounds) for name in turns}
    compiling = {name: first[name] - step[name] for name in turns}
    print(f"{options.images} x {options.size[0]} x {options.size[1]} pixels, {jax.devices()[0].device_kind}")
    print("| config | compilation, s | | step, s | |\n|---|---|---|---|---|")
    base = options.configs[0]
    for name in turns:
        ratios = compiling[name] / compiling[base], step[name] / step[base]
        print(f"| `{name}` | {compiling[name]:.1f} | {ratios[0]:.2f} | {step[name]:.2f} | {ratios[1]:.2f} |")


if __name__ == "__main__":
    main()
