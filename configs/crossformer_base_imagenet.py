"""CrossFormer-B on ImageNet-1k at 224 x 224.

    python train.py crossformer_base_imagenet --data.root /data/imagenet

The folder holds train/ and val/ with a folder for each class; --data.data-dir FOLDER reads what TFDS has prepared.
Source: Wang et al. 2022 (CrossFormer).
Model: Classifier CrossFormer-96 of 2+2+18+2 blocks
Parameters: 51,971,554 with 1,000 classes
Published: top-1 83.4
Measured here: not measured
"""

from vitjax import Experiment
from vitjax.backbones import crossformer_base
from vitjax.recipes import crossformer_imagenet


def experiment() -> Experiment:
    """The run."""
    return crossformer_imagenet(crossformer_base())
