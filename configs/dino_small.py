"""A small DINO for a few hundred images in COCO format, from random weights, on a CPU.

Give the folder as --data.root; classes are taken from the data. Images are brought to a shorter side of 224 pixels:
objects below about 8 pixels there are too small for it. For more objects in an image raise --model.num-queries.
Source: the recipe of Zhang et al. 2022, scaled down.
Model: DINO ResNet-18
Parameters: 1,372,590 with 3 classes
Published: none, it is vitjax's own
Measured here: not measured
"""

from vitjax import Experiment
from vitjax.backbones import ResNet
from vitjax.recipes import dino_small_data


def experiment() -> Experiment:
    """The run."""
    return dino_small_data(ResNet(depth=18, width=32, stage_blocks=(1, 1, 1), norm="group"))
