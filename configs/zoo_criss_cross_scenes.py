"""Criss-cross attention for what it was made for: a class for every pixel, here of scenes of handwritten digits.

Source: Huang et al. 2019 (CCNet), scaled down to 64 x 64 scenes of the digits of scikit-learn
Model: Segmenter ResNet-18-DC5 and CrissCrossHead
Parameters: 175,935 with 11 classes
Published: none, it is vitjax's own
Measured here: mIoU 0.872, 0.864 and 0.867 with seeds 0, 1 and 2; plain head: 0.855, 0.852, 0.852; in four minutes
"""

from vitjax import Experiment
from vitjax.recipes import zoo_scenes
from vitjax.segmentation import CrissCrossHead


def experiment() -> Experiment:
    """The run."""
    return zoo_scenes(CrissCrossHead(channels=32, hidden=64, norm="group"))
