"""Digits on cluttered canvases with the small ResNet that the zoo is compared with, without any attention.

Source: He et al. 2016, section 4.2, scaled down
Model: Classifier ResNet-20
Parameters: 78,042 with 10 classes
Published: none, it is vitjax's own
Measured here: top-1 96.5, 96.2 and 95.9 % with seeds 0, 1 and 2, in two to four minutes on one CPU core
"""

from vitjax import Experiment
from vitjax.recipes import zoo_digits, zoo_resnet


def experiment() -> Experiment:
    """The run."""
    return zoo_digits(zoo_resnet())
