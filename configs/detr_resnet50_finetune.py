"""DETR with a ResNet-50 on any folder in COCO format, from published weights or those of another run.

Give the folder as --data.root and the weights as --init-from; classes are taken from the data.
Source: the recipe of Carion et al. 2020 with a shorter schedule.
Published: none, it depends on the data
Measured here: not measured
"""

from vitjax.backbones.resnet import ResNet
from vitjax.data.coco import CocoFolder
from vitjax.detection.detr import DETR
from vitjax.runs.experiment import Experiment
from vitjax.runs.optimizer import AdamW, StepSchedule


def experiment() -> Experiment:
    """The run."""
    return Experiment(
        model=DETR(backbone=ResNet(depth=50)),
        data=CocoFolder(),
        optimizer=AdamW(
            multipliers={"^backbone/": 0.1},
            frozen=("^backbone/stem", "^backbone/stage_1/(?!.*attention/)"),
            schedule=StepSchedule(drop_epochs=(40,)),
        ),
        epochs=50,
        batch_size=4,
        workers=4,
    )
