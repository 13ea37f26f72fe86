"""Deformable DETR with a CrossFormer-S and iterative refinement of the boxes on COCO.

    python train.py deformable_detr_crossformer_small_coco --data.root /data/coco --init-from crossformer-s.pth

The weights are those that the authors of CrossFormer trained on ImageNet.
Source: the recipe of Zhu et al. 2021, table 1, with the backbone of Wang et al. 2022; nobody has published the two
together.
Model: DeformableDETR CrossFormer-96 of 2+2+6+2 blocks
Parameters: 43,759,046 with 91 classes
Published: none for this combination
Measured here: not measured
"""

from vitjax import Experiment
from vitjax.backbones import crossformer_small
from vitjax.recipes import deformable_detr_coco


def experiment() -> Experiment:
    """The run; labels are COCO's category ids, as in the other COCO configs."""
    return deformable_detr_coco(crossformer_small(), frozen=(), refine=True)
