"""Digits on cluttered canvases with a non-local block after the second stage: every place looks at all places.

Source: Wang et al. 2018 (non-local neural networks)
Published: none, it is vitjax's own
Measured here: not yet
"""

from vitjax.attention.non_local import NonLocal
from vitjax.training.experiment import Experiment
from vitjax.training.recipes import zoo_digits, zoo_resnet


def experiment() -> Experiment:
    """The run."""
    return zoo_digits(zoo_resnet(NonLocal(), (2,)), slow="/attention/")
