"""Time and memory of a training step of a detector with masks: its head on matched queries, and on all of them.

    python benchmarks/mask_head.py detr_resnet50_instances_coco --images 2 --size 480 640 --objects 8

Memory is what XLA plans besides the arguments; with --steps 0 the steps are compiled and not run. Steps alternate, and
seconds are CPU seconds of the process where that is the device. Weights, pixels, boxes and masks are random; --joint
trains the detector, too.
"""

import argparse
import dataclasses
import statistics
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from detector_steps import random_batch, seconds  # which finds vitjax beside itself

from vitjax.batch import Batch
from vitjax.placement import data_mesh, place_batch, place_state
from vitjax.runs.configs import load_config
from vitjax.segmentation import MaskDETR
from vitjax.structs import ANSWER
from vitjax.training.first_weights import first_variables
from vitjax.training.state import initial_state
from vitjax.training.steps import Step, make_train_step


class AllQueries(MaskDETR):
    """The same with masks of all queries also in training, of which those that are matched are taken."""

    def __call__(self, images: Any, *, train: bool, matching: Any = None, **given: Any) -> Any:
        """As of the model."""
        answer = super().__call__(images, train=train, **given)
        if matching is None:
            return answer
        assignment = matching(answer.predictions)
        queries = assignment.queries[ANSWER][-1]
        masks = jnp.take_along_axis(answer.masks, jnp.maximum(queries, 0)[..., None, None], axis=1)
        return answer.replace(masks=masks, queries=queries, assignment=assignment)


def masked_batch(images: int, height: int, width: int, objects: int, classes: int) -> Batch:
    """Noise for images, with so many objects whose masks are noise, too."""
    batch = random_batch(images, height, width, objects, classes)
    shape = (images, height, width, -(-objects // 8))
    return dataclasses.replace(batch, masks=np.random.default_rng(1).integers(256, size=shape, dtype=np.uint8))


def training(name: str, kind: type, shape: tuple[int, int, int], objects: int, joint: bool) -> tuple[Step, Any, list]:
    """The step of a config with a kind of model, the state before it, and a batch."""
    experiment: Any = load_config(name).experiment
    fields = {field.name: getattr(experiment.model, field.name) for field in dataclasses.fields(experiment.model)}
    kept = {key: fields[key] for key in ("detr", "finer", "relative_attention")}
    model = kind(**kept, max_masks=experiment.model.num_queries)
    recipe = dataclasses.replace(experiment.optimizer, frozen=()) if joint else experiment.optimizer
    mesh, optimizer = data_mesh(), recipe.for_batch_size(experiment.batch_size)
    variables = first_variables(model, seed=0)
    trainable, _ = optimizer.partition(variables["params"])
    transformation = optimizer.transformation(trainable, 1000, 100)
    objective = dataclasses.replace(experiment, model=model).objective(mesh)
    step = make_train_step(objective, optimizer, transformation, mesh)
    state = place_state(initial_state(variables, optimizer, transformation, 0), mesh)
    return step, state, [place_batch(masked_batch(*shape, objects, model.num_classes), mesh)]


def turning(step: Step, state: Any, parts: list) -> Callable[[], Any]:
    """A function that takes the next step."""

    def turn() -> Any:
        nonlocal state
        state, metrics = step(state, parts)
        return jax.block_until_ready(metrics)

    return turn


def main() -> None:
    """Prints a table: GiB and seconds of a step, with the head on matched queries and on all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", nargs="?", default="detr_resnet50_instances_coco", help="name of a config with masks")
    parser.add_argument("--images", type=int, default=2, help="images of a step (default: %(default)s)")
    parser.add_argument("--size", type=int, nargs=2, default=(480, 640), help="height and width (default: 480 640)")
    parser.add_argument("--objects", type=int, default=8, help="objects of an image (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=3, help="steps of each, alternating (default: %(default)s)")
    parser.add_argument("--joint", action="store_true", help="train the detector, too")
    options = parser.parse_args()
    shape = (options.images, *options.size)
    kinds = {"matched queries": MaskDETR, "all queries": AllQueries}
    turns, memory = {}, {}
    for name, kind in kinds.items():
        step, state, parts = training(options.config, kind, shape, options.objects, options.joint)
        (program,) = step.lowered(state, parts)
        memory[name] = program.compile().memory_analysis().temp_size_in_bytes / 2**30
        turns[name] = turning(step, state, parts)
        print(f"{name}: {memory[name]:.2f} GiB", flush=True)
    rounds = [{name: seconds(turn) for name, turn in turns.items()} for _ in range(options.steps and options.steps + 1)]
    print(f"{options.config}, {shape[0]} x {shape[1]} x {shape[2]} pixels, {options.objects} objects an image")
    print("| head on | memory, GiB | step, s |\n|---|---|---|")
    for name in kinds:
        step_seconds = statistics.median(row[name] for row in rounds[1:]) if options.steps else float("nan")
        print(f"| {name} | {memory[name]:.2f} | {step_seconds:.2f} |")


if __name__ == "__main__":
    main()
