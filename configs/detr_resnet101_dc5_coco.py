"""DETR with a ResNet-101 whose last stage is dilated (DC5) on COCO.

    python train.py detr_resnet101_dc5_coco --data.root /data/coco --init-from resnet101-63fe2227.pth

The weights are torchvision's V1, with which the published runs start too; or --init-from timm/resnet101.tv_in1k.
Source: Carion et al. 2020, table 1; the released weights' schedule: 500 epochs, learning rate down at 400, batch 64.
Model: DETR ResNet-101-DC5
Parameters: 60,242,272 with 91 classes, 222,400 more are frozen
Published: AP 44.9, AP50 64.7
Measured here: not measured
"""

from vitjax import Experiment
from vitjax.backbones import ResNet
from vitjax.recipes import detr_coco


def experiment() -> Experiment:
    """The run; labels are COCO's category ids, as in the published weights."""
    return detr_coco(ResNet(depth=101, dilation=True))
