"""DETR with a ResNet-50 on COCO.

    python train.py detr_resnet50_coco --data.root /data/coco --init-from resnet50-0676ba61.pth

The weights are torchvision's V1, with which the published runs start too; or --init-from timm/resnet50.tv_in1k.
Source: Carion et al. 2020, table 1; the released weights' schedule: 500 epochs, learning rate down at 400, batch 64.
Model: DETR ResNet-50
Parameters: 41,302,368 with 91 classes, 222,400 more are frozen
Published: AP 42.0, AP50 62.4
Measured here: not measured
"""

from vitjax import Experiment
from vitjax.backbones import ResNet
from vitjax.recipes import detr_coco


def experiment() -> Experiment:
    """The run; labels are COCO's category ids, as in the published weights."""
    return detr_coco(ResNet(depth=50))
