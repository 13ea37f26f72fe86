"""DINO with a ResNet-50 and four levels on COCO, 12 epochs.

    python train.py dino_resnet50_4scale_coco --data.root /data/coco --init-from resnet50-0676ba61.pth

The weights are torchvision's V1, with which the published runs start too; or --init-from timm/resnet50.tv_in1k.
Source: Zhang et al. 2022, table 1 and its code: 12 epochs, learning rate down at 11, batch 16.
Model: DINO ResNet-50
Parameters: 46,670,782 with 91 classes, 222,400 more are frozen
Published: AP 49.0
Measured here: not measured
"""

from vitjax import Experiment
from vitjax.backbones import ResNet
from vitjax.recipes import dino_coco


def experiment() -> Experiment:
    """The run; labels are COCO's category ids, as in the published weights."""
    return dino_coco(ResNet(depth=50))
