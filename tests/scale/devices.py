"""One step of small models on 1 to 8 virtual devices: `python tests/scale/devices.py detr 1 2 4 8 8s` prints JSON.

It has, by number of devices, the largest difference of a parameter from one device, and bytes on each device; `8s` is
8 devices of which each has a share of the state.
"""

import dataclasses
import json
import sys
import tempfile
from pathlib import Path

import jax
import numpy as np

from vitjax.backbones.crossformer import CrossFormer
from vitjax.backbones.resnet import ResNet
from vitjax.checkpoints.paths import flatten
from vitjax.checkpoints.store import Store
from vitjax.data.digit_masks import DigitMasks
from vitjax.data.digits import Digits
from vitjax.data.transforms import Augmentation, Resize
from vitjax.detection.deformable_detr import DeformableDETR
from vitjax.detection.detr import DETR
from vitjax.detection.focal_loss import FocalSetLoss
from vitjax.detection.postprocess import TopDetections
from vitjax.placement import data_mesh, place_batch
from vitjax.runs.optimizer import AdamW
from vitjax.segmentation.detr_masks import MaskDETR
from vitjax.tasks.detection import Detection
from vitjax.tasks.masks import MaskDetection
from vitjax.training import prepare

SMALL = ResNet(depth=18, width=8, stage_blocks=(1, 1), norm="group")
CROSS = CrossFormer(channels=8, depths=(1, 1), heads=(1, 2), group_sizes=(2, 2), intervals=(2, 2), drop_path=0.0)
THIN = {"num_queries": 5, "channels": 64, "heads": 8, "encoder_layers": 1, "decoder_layers": 1, "feed_forward": 256}
LEVELS = {"levels": 2, "backbone_levels": 1, "refine": True, "two_stage": True}
SHARED = {
    "augmentation": Augmentation(sizes=(), max_side=None, crop=0.0),
    "resize": Resize(size=None, max_side=None),
    # A large eps keeps the update smooth in the gradient: Adam would turn rounding of a zero one into a whole step.
    "optimizer": AdamW(learning_rate=1e-3, eps=1e-3),
    "batch_size": 8,
    "average": 0.9,
}
DATA = Digits(train_images=8, val_images=8)


def experiment(name):
    if name == "masks":
        data = DigitMasks(train_images=8, val_images=8)
        return MaskDetection(model=MaskDETR(DETR(SMALL, dropout=0.0, **THIN), finer=1), data=data, **SHARED)
    if name == "deformable":
        model = DeformableDETR(SMALL, dropout=0.0, **LEVELS, **THIN)
        return Detection(model=model, data=DATA, loss=FocalSetLoss(), postprocess=TopDetections(), **SHARED)
    backbone = CROSS if name == "crossformer" else SMALL
    return Detection(model=DETR(backbone, **THIN), data=DATA, **SHARED)  # with dropout, which is to be the same, too


def one_step(name, devices, fsdp):
    """The parameters after a step, and the bytes of state and of the program's arguments on a device."""
    prepare.data_mesh = lambda: data_mesh(jax.devices()[:devices])
    run = prepare.prepare(dataclasses.replace(experiment(name), fsdp=fsdp))
    parts = [place_batch(part, run.mesh) for part in next(run.reads(0))]
    state = run.state
    (program,) = run.train_step.lowered(state, parts)
    planned = program.compile().memory_analysis().argument_size_in_bytes
    state, _ = run.train_step(state, parts)
    leaves = jax.tree.leaves((state.trainable, state.optimizer, state.average))
    held = sum(leaf.addressable_shards[0].data.nbytes for leaf in leaves)
    return run, state, {"held": held, "planned": planned}


def main(name, *counts):
    """Prints what comes of it on so many devices, the first of which the others are compared with."""
    jax.config.update("jax_num_cpu_devices", 8)
    jax.config.update("jax_disable_most_optimizations", True)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    found, first, whole = {}, None, None
    for count in counts:
        run, state, sizes = one_step(name, int(count.rstrip("s")), count.endswith("s"))
        parameters = flatten(jax.device_get(state.trainable))
        first = first or parameters
        sizes["differs"] = max(float(np.abs(parameters[path] - first[path]).max()) for path in first)
        if count.endswith("s"):
            sizes["restored"] = restored(run, state, whole)
        else:
            whole = run.shapes
        found[count] = sizes
    print(json.dumps(found))


def restored(run, state, whole):
    """Whether what is saved in shares comes back whole, and then in shares, to the bit."""
    with tempfile.TemporaryDirectory() as folder, Store(Path(folder)) as store:
        store.save(1, state)
        again = [store.restore(1, whole), store.restore(1, run.shapes)]
    given = flatten(jax.device_get(state.trainable))
    same = [np.array_equal(given[path], leaf) for one in again for path, leaf in flatten(one.trainable).items()]
    leaves = [jax.tree.leaves(tree) for tree in (again[1], run.shapes)]
    placed = [leaf.sharding == like.sharding for leaf, like in zip(*leaves, strict=True)]
    return all(same) and all(placed)


if __name__ == "__main__":
    main(*sys.argv[1:])
