"""Conditional DETR with a ResNet-50 on any folder in COCO format.

Give the folder as --data.root and weights, published ones or those of another run, as --init-from; classes are taken
from the data.
Source: the recipe of Meng et al. 2021 at a small batch size.
Model: ConditionalDETR ResNet-50
Parameters: 43,196,001 with 91 classes, 222,400 more are frozen
Published: none, it depends on the data
Measured here: not measured
"""

from vitjax import Experiment
from vitjax.backbones import ResNet
from vitjax.recipes import conditional_detr_finetune


def experiment() -> Experiment:
    """The run."""
    return conditional_detr_finetune(ResNet(depth=50))
