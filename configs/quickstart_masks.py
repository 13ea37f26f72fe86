"""A small Deformable DETR with masks that learns to segment digits and the paper they are on, in minutes on a CPU.

Source: the recipes of Zhu et al. 2021 and of Carion et al. 2020, section 4.4, scaled down and trained together.
Model: MaskDETR ResNet-20
Parameters: 1,358,413 with 13 classes
Published: none, it is vitjax's own
Measured here: segm AP50 0.76, 0.76, 0.87, PQ 0.62, 0.64, 0.72 (seeds 0, 1, 2), in 7 minutes of two CPU cores
"""

from vitjax import MaskDetection
from vitjax.backbones import ResNet
from vitjax.recipes import mask_digits


def experiment() -> MaskDetection:
    """The run."""
    backbone = ResNet(depth=20, stem="small", width=16, stage_blocks=(1, 1, 1, 1), norm="group")
    return mask_digits(backbone, epochs=1.5)
