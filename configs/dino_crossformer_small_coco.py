"""DINO with a CrossFormer-S and four levels on COCO, 12 epochs.

Source: the recipe of Zhang et al. 2022 with the backbone of Wang et al. 2022; nobody has published the two together.
Start from ImageNet weights of the backbone: --init-from crossformer-s.safetensors (published names).
Published: none for this combination
Measured here: not measured
"""

from vitjax import Experiment
from vitjax.backbones import crossformer_small
from vitjax.recipes import dino_coco


def experiment() -> Experiment:
    """The run; labels are COCO's category ids, as in the other COCO configs."""
    return dino_coco(crossformer_small(), frozen=())
