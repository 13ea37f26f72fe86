"""DETR with a CrossFormer-S on COCO.

Source: the recipe of Carion et al. 2020 with the backbone of Wang et al. 2022; nobody has published the two together.
Start from ImageNet weights of the backbone: --init-from crossformer-s.safetensors (published names).
Published: none for this combination
Measured here: not measured
"""

from vitjax import Experiment
from vitjax.backbones import crossformer_small
from vitjax.recipes import detr_coco


def experiment() -> Experiment:
    """The run; labels are COCO's category ids, as in the other COCO configs."""
    return detr_coco(crossformer_small(), frozen=())
