"""Deformable DETR with a CrossFormer-S and iterative refinement of the boxes on COCO.

Source: the recipe of Zhu et al. 2021, table 1, with the backbone of Wang et al. 2022; nobody has published the two
together. Start from ImageNet weights of the backbone: --init-from crossformer-s.safetensors (published names).
Published: none for this combination
Measured here: not measured
"""

from vitjax import Experiment
from vitjax.backbones import crossformer_small
from vitjax.recipes import deformable_detr_coco


def experiment() -> Experiment:
    """The run; labels are COCO's category ids, as in the other COCO configs."""
    return deformable_detr_coco(crossformer_small(), frozen=(), refine=True)
