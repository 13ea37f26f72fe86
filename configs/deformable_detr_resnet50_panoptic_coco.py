"""Deformable DETR with a ResNet-50 and masks on COCO's things and stuff, trained together.

    python train.py deformable_detr_resnet50_panoptic_coco --data.root /data/coco --init-from resnet50-0676ba61.pth

The weights are torchvision's V1. The folder has COCO's images and panoptic annotations (--data.panoptic-root where
these lie elsewhere).
Source: the recipe of Zhu et al. 2021 with refinement, and the mask head of Carion et al. 2020, section 4.4.
Model: MaskDETR ResNet-50
Parameters: 42,206,095 with 250 classes, 222,400 more are frozen
Published: none, it is vitjax's own
Measured here: not measured
"""

from vitjax import Experiment
from vitjax.backbones import ResNet
from vitjax.recipes import deformable_detr_panoptic_coco


def experiment() -> Experiment:
    """The run; labels are COCO's panoptic category ids."""
    return deformable_detr_panoptic_coco(ResNet(depth=50))
