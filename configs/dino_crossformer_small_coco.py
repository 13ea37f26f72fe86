"""DINO with a CrossFormer-S and four levels on COCO, 12 epochs.

    python train.py dino_crossformer_small_coco --data.root /data/coco --init-from crossformer-s.pth

The weights are those that the authors of CrossFormer trained on ImageNet.
Source: the recipe of Zhang et al. 2022 with the backbone of Wang et al. 2022; nobody has published the two together.
Model: DINO CrossFormer-96 of 2+2+6+2 blocks
Parameters: 49,802,568 with 91 classes
Published: none for this combination
Measured here: not measured
"""

from vitjax import Experiment
from vitjax.backbones import crossformer_small
from vitjax.recipes import dino_coco


def experiment() -> Experiment:
    """The run; labels are COCO's category ids, as in the other COCO configs."""
    return dino_coco(crossformer_small(), frozen=())
