"""DETR with a ResNet-50 on any folder in COCO format, from published weights or those of another run.

Give the folder as --data.root and the weights as --init-from; classes are taken from the data.
Source: the recipe of Carion et al. 2020 with a shorter schedule.
Model: DETR ResNet-50
Parameters: 41,302,368 with 91 classes, 222,400 more are frozen
Published: none, it depends on the data
Measured here: not measured
"""

from vitjax import Experiment
from vitjax.backbones import ResNet
from vitjax.recipes import detr_finetune


def experiment() -> Experiment:
    """The run."""
    return detr_finetune(ResNet(depth=50))
