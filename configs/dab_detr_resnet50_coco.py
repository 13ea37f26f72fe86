"""DAB-DETR with a ResNet-50 on COCO.

    python train.py dab_detr_resnet50_coco --data.root /data/coco --init-from resnet50-0676ba61.pth

The weights are torchvision's V1, with which the published runs start too; or --init-from timm/resnet50.tv_in1k.
Source: Liu et al. 2022, table 2 and its code: 50 epochs, learning rate down at 40, batch 16.
Model: DABDETR ResNet-50
Parameters: 43,449,117 with 91 classes, 222,400 more are frozen
Published: AP 42.2, AP50 63.1
Measured here: not measured
"""

from vitjax import Experiment
from vitjax.backbones import ResNet
from vitjax.recipes import dab_detr_coco


def experiment() -> Experiment:
    """The run; labels are COCO's category ids, as in the published weights."""
    return dab_detr_coco(ResNet(depth=50))
