"""DETR with a CrossFormer-S on COCO.

    python train.py detr_crossformer_small_coco --data.root /data/coco --init-from crossformer-s.pth

The weights are those that the authors of CrossFormer trained on ImageNet.
Source: the recipe of Carion et al. 2020 with the backbone of Wang et al. 2022; nobody has published the two together.
Model: DETR CrossFormer-96 of 2+2+6+2 blocks
Parameters: 47,629,034 with 91 classes
Published: none for this combination
Measured here: not measured
"""

from vitjax import Experiment
from vitjax.backbones import crossformer_small
from vitjax.recipes import detr_coco


def experiment() -> Experiment:
    """The run; labels are COCO's category ids, as in the other COCO configs."""
    return detr_coco(crossformer_small(), frozen=())
