"""CrossFormer-T on ImageNet-1k at 224 x 224.

    python train.py crossformer_tiny_imagenet --data.root /data/imagenet

The folder holds train/ and val/ with a folder for each class; --data.data-dir FOLDER reads what TFDS has prepared.
Source: Wang et al. 2022 (CrossFormer).
Model: Classifier CrossFormer-64 of 1+1+8+6 blocks
Parameters: 27,776,794 with 1,000 classes
Published: top-1 81.5
Measured here: not measured
"""

from vitjax import Experiment
from vitjax.backbones import crossformer_tiny
from vitjax.recipes import crossformer_imagenet


def experiment() -> Experiment:
    """The run."""
    return crossformer_imagenet(crossformer_tiny())
