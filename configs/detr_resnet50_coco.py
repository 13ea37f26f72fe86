"""DETR with a ResNet-50 on COCO.

Source: Carion et al. 2020, table 1; the released weights' schedule: 500 epochs, learning rate down at 400, batch 64.
The published runs start from ImageNet weights of the backbone: --init-from resnet50.safetensors (torchvision names).
Published: AP 42.0, AP50 62.4
Measured here: not measured
"""

from vitjax.backbones.resnet import ResNet
from vitjax.data.coco import CocoFolder
from vitjax.detection.detr import DETR
from vitjax.runs.experiment import Experiment
from vitjax.runs.optimizer import AdamW, StepSchedule


def experiment() -> Experiment:
    """The run; labels are COCO's category ids, as in the published weights."""
    return Experiment(
        model=DETR(backbone=ResNet(depth=50), num_classes=91),
        data=CocoFolder(labels="category_id"),
        optimizer=AdamW(
            multipliers={"^backbone/": 0.1},
            frozen=("^backbone/stem", "^backbone/stage_1/(?!.*attention/)"),
            schedule=StepSchedule(drop_epochs=(400,)),
        ),
        epochs=500,
        batch_size=64,
        evaluate_every=10,
        save_every=1,
        workers=8,
    )
