"""Conditional DETR with a ResNet-50 on COCO.

    python train.py conditional_detr_resnet50_coco --data.root /data/coco --init-from resnet50-0676ba61.pth

The weights are torchvision's V1, with which the published runs start too; or --init-from timm/resnet50.tv_in1k.
Source: Meng et al. 2021, table 1 and its code: 50 epochs, learning rate down at 40, batch 16.
Model: ConditionalDETR ResNet-50
Parameters: 43,196,001 with 91 classes, 222,400 more are frozen
Published: AP 40.9 (41.0 with the released weights); 43.0 after 108 epochs
Measured here: not measured
"""

from vitjax import Experiment
from vitjax.backbones import ResNet
from vitjax.recipes import conditional_detr_coco


def experiment() -> Experiment:
    """The run; labels are COCO's category ids, as in the published weights."""
    return conditional_detr_coco(ResNet(depth=50))
