"""Deformable DETR with a ResNet-50 and iterative refinement of the boxes on COCO.

Source: Zhu et al. 2021, table 1 and its code: 50 epochs, learning rate down at 40, batch 32.
The published runs start from ImageNet weights of the backbone: --init-from resnet50.safetensors (torchvision names).
Published: AP 46.2, 28.3 / 49.2 / 61.5 on small, medium and large objects
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
    """The run; labels are COCO's category ids, as in the published weights."""
    return Experiment(
        model=DeformableDETR(backbone=ResNet(depth=50), num_classes=91, refine=True),
        data=CocoFolder(labels="category_id"),
        loss=FocalSetLoss(),
        postprocess=TopDetections(),
        optimizer=AdamW(
            learning_rate=2e-4,
            multipliers={"^backbone/": 0.1, "sampling_offsets|reference_points": 0.1},
            frozen=("^backbone/stem", "^backbone/stage_1/(?!.*attention/)"),
            schedule=StepSchedule(drop_epochs=(40,)),
        ),
        epochs=50,
        batch_size=32,
        evaluate_every=1,
        save_every=1,
        workers=8,
    )
