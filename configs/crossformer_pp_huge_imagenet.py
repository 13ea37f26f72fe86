"""CrossFormer++-H on ImageNet-1k at 224 x 224.

    python train.py crossformer_pp_huge_imagenet --data.root /data/imagenet

The folder holds train/ and val/ with a folder for each class; --data.data-dir FOLDER reads what TFDS has prepared.
Source: Wang et al. 2023 (CrossFormer++), with the recipe of CrossFormer.
Model: Classifier CrossFormer++-128 of 6+6+18+2 blocks
Parameters: 95,962,944 with 1,000 classes
Published: top-1 84.9
Measured here: not measured
"""

import dataclasses

from vitjax import Experiment
from vitjax.backbones import crossformer_pp_huge
from vitjax.recipes import crossformer_imagenet


def experiment() -> Experiment:
    """The run."""
    return dataclasses.replace(crossformer_imagenet(crossformer_pp_huge()), micro_batches=2)
