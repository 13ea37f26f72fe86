"""The memory of a training step of configs at their largest size, as the compiler plans it; nothing is computed.

    python benchmarks/memory.py detr_resnet50_dc5_coco detr_resnet50_dc5_coco:model.remat=True

Prints a row of a table for each: the images of a part on one of --devices devices, the size, and the GiB of one device
with what a part leaves only for the step (temporary) and with state and batch (all). NAME:FIELD=VALUE changes a field.
Detectors are planned for images of --size, with --objects places each; masks for the same.
"""

import argparse
import dataclasses
import math
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from vitjax.batch import Batch, Targets
from vitjax.placement import data_mesh, divided, replicated
from vitjax.runs.configs import load_config, override
from vitjax.training.state import init, initial_state
from vitjax.training.steps import make_train_step

_CLASSES = 91  # where a config takes them from the data


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("configs", nargs="+", help="names of configs, with changed fields behind colons")
    parser.add_argument("--devices", type=int, default=8, help="that the images of a part are divided among (8)")
    parser.add_argument("--size", type=int, nargs=2, default=(800, 1344), help="height and width of detectors' images")
    parser.add_argument("--objects", type=int, default=64, help="places for objects of an image (64)")
    options = parser.parse_args()
    print("| config | images of a part on a device | size | temporary, GiB | all, GiB |\n|---|---|---|---|---|")
    for word in options.configs:
        name, *fields = word.split(":")
        words = [part for field in fields for part in ("--" + field).split("=", 1)]
        experiment = override(load_config(name), words)
        rows, size, plan = planned(experiment, options.devices, tuple(options.size), options.objects)
        temporary = plan.temp_size_in_bytes
        whole = plan.argument_size_in_bytes + plan.output_size_in_bytes - plan.alias_size_in_bytes + temporary
        cells = (f"`{' --'.join([name, *fields])}`", rows, f"{size[0]} x {size[1]}")
        print("|", " | ".join(map(str, (*cells, f"{temporary / 2**30:.1f}", f"{whole / 2**30:.1f}"))), "|", flush=True)


def planned(experiment: Any, devices: int, size: tuple[int, int], objects: int) -> tuple[int, tuple[int, int], Any]:
    """The images of a part on one device, their size, and the compiler's plan of memory for them."""
    jax.config.update("jax_default_matmul_precision", experiment.matmul_precision)
    mesh = data_mesh(jax.devices()[:1])
    model = experiment.model
    if getattr(model, "num_classes", 0) is None:
        model = model.clone(num_classes=_CLASSES)
        experiment = dataclasses.replace(experiment, model=model)
    cut = getattr(experiment.augmentation, "size", None)
    size = size if cut is None else (cut, cut)
    rows = math.ceil(experiment.batch_size / experiment.micro_batches / devices)
    optimizer = experiment.optimizer.for_batch_size(experiment.batch_size)
    variables = jax.eval_shape(lambda: init(model, experiment.seed))
    transformation = optimizer.transformation(optimizer.partition(variables["params"])[0], 1000, 100)
    kept: Any = {"average": experiment.average is not None}
    state = jax.eval_shape(lambda given: initial_state(given, optimizer, transformation, 0, **kept), variables)
    options: Any = {"average": experiment.average, "skips": experiment.skip_non_finite > 0}
    step = make_train_step(experiment.objective(mesh), optimizer, transformation, mesh, **options)
    whole, part = replicated(mesh), divided(mesh)
    state = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=whole), state)
    shapes = batch_shapes(rows, size, objects, masks=hasattr(model, "inside"))
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=part), shapes)
    program = next(step.lowered(state, [shapes] * min(2, experiment.micro_batches)))
    return rows, size, program.compile().memory_analysis()


def batch_shapes(rows: int, size: tuple[int, int], objects: int, *, masks: bool) -> Batch:
    """A batch of shapes alone."""

    def of(kind: Any, *shape: int) -> Any:
        return jax.ShapeDtypeStruct((rows, *shape), kind)

    targets = Targets(of(np.float32, objects, 4), of(np.int32, objects), of(bool, objects))
    numbers = of(np.int32)
    planes = of(np.uint8, *size, -(-objects // 8)) if masks else None
    return Batch(of(np.uint8, *size, 3), of(np.int32, 2), targets, numbers, of(np.int32, 2), numbers, masks=planes)


if __name__ == "__main__":
    main()
