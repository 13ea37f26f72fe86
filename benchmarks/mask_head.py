"""Time and memory of a training step of a detector with masks: its head on matched queries, and on all of them.

    python benchmarks/mask_head.py detr_resnet50_instances_coco --images 2 --size 480 640 --objects 8

Memory is what XLA plans besides the arguments; with --steps 0 the steps are compiled and not run. Steps alternate, and
seconds are CPU seconds of the process where that is the device. Weights, pixels, boxes and masks are random; --joint
trains the detector, too.
"""

import argparse
import dataclasses
import statistics
import sys
from pathlib import Path
from typing import Any

import jax.numpy as jnp

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.steps import Training, experiment_of, random_batch, seconds
from benchmarks.steps import training as training_of
from vitjax.segmentation import MaskDETR
from vitjax.structs import ANSWER


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


def training(name: str, kind: type, shape: tuple[int, int, int], objects: int, joint: bool) -> Training:
    """The steps of a config with a kind of model, on a batch with so many objects an image."""
    experiment = experiment_of(name)
    fields = {field.name: getattr(experiment.model, field.name) for field in dataclasses.fields(experiment.model)}
    kept = {key: fields[key] for key in ("detr", "finer", "relative_attention")}
    model = kind(**kept, max_masks=experiment.model.num_queries)
    recipe = dataclasses.replace(experiment.optimizer, frozen=()) if joint else experiment.optimizer
    experiment = dataclasses.replace(experiment, model=model, optimizer=recipe)
    return training_of(experiment, random_batch(experiment, shape, objects, objects))


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
        turns[name] = training(options.config, kind, shape, options.objects, options.joint)
        memory[name] = turns[name].program().memory_analysis().temp_size_in_bytes / 2**30
        print(f"{name}: {memory[name]:.2f} GiB", flush=True)
    rounds = [{name: seconds(turn) for name, turn in turns.items()} for _ in range(options.steps and options.steps + 1)]
    print(f"{options.config}, {shape[0]} x {shape[1]} x {shape[2]} pixels, {options.objects} objects an image")
    print("| head on | memory, GiB | step, s |\n|---|---|---|")
    for name in kinds:
        step_seconds = statistics.median(row[name] for row in rounds[1:]) if options.steps else float("nan")
        print(f"| {name} | {memory[name]:.2f} | {step_seconds:.2f} |")


if __name__ == "__main__":
    main()
