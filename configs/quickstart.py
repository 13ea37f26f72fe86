"""A small Deformable DETR that learns to find handwritten digits, in minutes on a CPU and without any download.

Source: the recipe of Zhu et al. 2021, scaled down to 64 x 64 scenes and trained from random weights.
Model: DeformableDETR ResNet-18
Parameters: 741,758 with 10 classes
Published: none, it is vitjax's own
Measured here: AP50 0.94, 0.92, 0.94 (seeds 0, 1, 2), in 2 to 3 minutes on two shared CPU cores
"""

from vitjax import Experiment
from vitjax.backbones import ResNet
from vitjax.recipes import deformable_detr_digits


def experiment() -> Experiment:
    """The run."""
    backbone = ResNet(depth=18, width=32, stage_blocks=(1, 1), norm="group")
    return deformable_detr_digits(backbone, epochs=1.5, warmup_steps=100)
