"""CrossFormer++-S on ImageNet-1k at 224 x 224.

    python train.py crossformer_pp_small_imagenet --data.root /data/imagenet

The folder holds train/ and val/ with a folder for each class; --data.data-dir FOLDER reads what TFDS has prepared.
Source: Wang et al. 2023 (CrossFormer++), with the recipe of CrossFormer.
Model: Classifier CrossFormer++-64 of 2+2+18+2 blocks
Parameters: 23,325,340 with 1,000 classes
Published: top-1 83.2
Measured here: not measured
"""

from vitjax import Experiment
from vitjax.backbones import crossformer_pp_small
from vitjax.recipes import crossformer_imagenet


def experiment() -> Experiment:
    """The run."""
    return crossformer_imagenet(crossformer_pp_small())
