"""Digits on cluttered canvases with dual attention after the second stage: pixels look at pixels, channels at channels.

Source: Fu et al. 2019 (DANet)
Published: none, it is vitjax's own
Measured here: not yet
"""

from vitjax.attention.dual import DualAttention
from vitjax.training.experiment import Experiment
from vitjax.training.recipes import zoo_digits, zoo_resnet


def experiment() -> Experiment:
    """The run."""
    return zoo_digits(zoo_resnet(DualAttention(), (2,)), slow="/attention/")
