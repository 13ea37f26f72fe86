"""DETR with a ResNet-50 and masks on COCO's instances: the mask head upon a frozen detector.

    python train.py detr_resnet50_instances_coco --data.root /data/coco --init-from detr-r50-e632da11.pth

Source: Carion et al. 2020, section 4.4 and its code: 25 epochs, learning rate down at 15, 16 images a step.
Model: MaskDETR ResNet-50
Parameters: 1,333,657 with 91 classes, 41,524,768 more are frozen
Published: none with these labels
Measured here: not measured
"""

from vitjax import Experiment
from vitjax.backbones import ResNet
from vitjax.recipes import detr_instances_coco


def experiment() -> Experiment:
    """The run; labels are COCO's category ids, as in the published weights."""
    return detr_instances_coco(ResNet(depth=50))
