"""Digits on cluttered canvases with a gate for every channel in each block.

Source: Hu et al. 2018 (squeeze-and-excitation)
Published: none, it is vitjax's own
Measured here: not yet
"""

from vitjax.attention.squeeze_excitation import SqueezeExcitation
from vitjax.training.experiment import Experiment
from vitjax.training.recipes import zoo_digits, zoo_resnet


def experiment() -> Experiment:
    """The run."""
    return zoo_digits(zoo_resnet(SqueezeExcitation(reduction=4), (1, 2, 3)))
