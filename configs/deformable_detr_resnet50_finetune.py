"""Deformable DETR with a ResNet-50, refinement and four levels on any folder in COCO format.

Give the folder as --data.root and weights, published ones or those of another run, as --init-from; classes are taken
from the data.
Source: the recipe of Zhu et al. 2021 at a small batch size.
Published: none, it depends on the data
Measured here: not measured
"""

from vitjax.backbones.resnet import ResNet
from vitjax.data.coco import CocoFolder
from vitjax.detection.deformable_detr import DeformableDETR
from vitjax.detection.focal_loss import FocalSetLoss
from vitjax.detection.postprocess import TopDetections
from vitjax.runs.experiment import Experiment
from vitjax.runs.optimizer import AdamW, StepSchedule


def experiment() -> Experiment:
    """The run."""
    return Experiment(
        model=DeformableDETR(backbone=ResNet(depth=50), refine=True),
        data=CocoFolder(),
        loss=FocalSetLoss(),
        postprocess=TopDetections(),
        optimizer=AdamW(
            learning_rate=2e-4,
            multipliers={"^backbone/": 0.1, "sampling_offsets|reference_points": 0.1},
            frozen=("^backbone/stem", "^backbone/stage_1/(?!.*attention/)"),
            schedule=StepSchedule(drop_epochs=(40,)),
        ),
        epochs=50,
        batch_size=4,
        workers=4,
    )
