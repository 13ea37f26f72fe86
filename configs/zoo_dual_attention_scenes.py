"""Dual attention for what it was made for: a class for every pixel, here of scenes of handwritten digits.

Source: Fu et al. 2019 (DANet), scaled down to 64 x 64 scenes of the digits of scikit-learn
Model: Segmenter ResNet-18-DC5 and DualAttentionHead
Parameters: 148,662 with 11 classes
Published: none, it is vitjax's own
Measured here: mIoU 0.862, 0.859 and 0.862 with seeds 0, 1 and 2; plain head: 0.855, 0.852, 0.852; in four minutes
"""

from vitjax import Experiment
from vitjax.recipes import zoo_scenes
from vitjax.segmentation import DualAttentionHead


def experiment() -> Experiment:
    """The run."""
    return zoo_scenes(DualAttentionHead(channels=32, norm="group"))
