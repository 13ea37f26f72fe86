"""DETR with a CrossFormer-S on COCO.

Source: the recipe of Carion et al. 2020 with the backbone of Wang et al. 2022; nobody has published the two together.
Start from ImageNet weights of the backbone: --init-from crossformer-s.safetensors (published names).
Published: none for this combination
Measured here: not measured
"""

from vitjax.backbones.crossformer import crossformer_small
from vitjax.data.coco import CocoFolder
from vitjax.detection.detr import DETR
from vitjax.runs.experiment import Experiment
from vitjax.runs.optimizer import AdamW, StepSchedule


def experiment() -> Experiment:
    """The run; labels are COCO's category ids, as in the other COCO configs."""
    return Experiment(
        model=DETR(backbone=crossformer_small(), num_classes=91),
        data=CocoFolder(labels="category_id"),
        optimizer=AdamW(
            multipliers={"^backbone/": 0.1},
            schedule=StepSchedule(drop_epochs=(400,)),
        ),
        epochs=500,
        batch_size=64,
        evaluate_every=10,
        save_every=1,
        workers=8,
    )
