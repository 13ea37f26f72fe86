"""DETR with a ResNet-101 and masks on COCO's things and stuff: the mask head upon a frozen detector.

    python train.py detr_resnet101_panoptic_coco --data.root /data/coco --init-from detr-r101-panoptic-40021d53.pth

The folder has COCO's images and panoptic annotations (--data.panoptic-root where these lie elsewhere). The detector may
also be a run of a DETR on the same labels; of the published file the mask head is taken, too.
Source: Carion et al. 2020, section 4.4 and its code: 25 epochs, learning rate down at 15, 16 images a step.
Model: MaskDETR ResNet-101
Parameters: 1,333,657 with 250 classes, 60,505,535 more are frozen
Published: PQ 45.1, box AP 40.1, segm AP 33.0
Measured here: not measured
"""

from vitjax import Experiment
from vitjax.backbones import ResNet
from vitjax.recipes import detr_panoptic_coco


def experiment() -> Experiment:
    """The run; labels are COCO's panoptic category ids, as in the published weights."""
    return detr_panoptic_coco(ResNet(depth=101))
