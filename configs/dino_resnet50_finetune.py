"""DINO with a ResNet-50 and four levels on any folder in COCO format.

Give the folder as --data.root and weights, published ones or those of another run, as --init-from; classes are taken
from the data.
Source: the recipe of Zhang et al. 2022 at a small batch size.
Model: DINO ResNet-50
Parameters: 46,670,782 with 91 classes, 222,400 more are frozen
Published: none, it depends on the data
Measured here: not measured
"""

from vitjax import Experiment
from vitjax.backbones import ResNet
from vitjax.recipes import dino_finetune


def experiment() -> Experiment:
    """The run."""
    return dino_finetune(ResNet(depth=50))
