"""Digits on cluttered canvases with a spatial transformer before the network: it turns and cuts out the image first.

Source: Jaderberg et al. 2015 (spatial transformer networks)
Model: Classifier SpatiallyTransformed
Parameters: 86,010 with 10 classes
Published: none, it is vitjax's own
Measured here: top-1 97.0, 96.5 and 96.4 % with seeds 0, 1 and 2, in two to four minutes on one CPU core
"""

from vitjax import Experiment
from vitjax.attention import SpatialTransformer
from vitjax.backbones import SpatiallyTransformed
from vitjax.recipes import zoo_digits, zoo_resnet


def experiment() -> Experiment:
    """The run."""
    return zoo_digits(SpatiallyTransformed(zoo_resnet(), SpatialTransformer()))
