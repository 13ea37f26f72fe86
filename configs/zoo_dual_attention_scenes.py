"""Dual attention for what it was made for: a class for every pixel, here of scenes of handwritten digits.

Source: Fu et al. 2019 (DANet), scaled down to 64 x 64 scenes of the digits of scikit-learn
Published: none, it is vitjax's own
Measured here: mIoU 0.862 with seed 0 (plain head: 0.855), in 4:23 minutes of processor time on two shared CPU cores
"""

from vitjax.segmentation.dual_head import DualAttentionHead
from vitjax.training.experiment import Experiment
from vitjax.training.recipes import zoo_scenes


def experiment() -> Experiment:
    """The run."""
    return zoo_scenes(DualAttentionHead(channels=32, norm="group"))
