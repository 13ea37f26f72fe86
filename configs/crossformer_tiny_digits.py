"""A small CrossFormer that learns to read handwritten digits, in minutes on a CPU and without any download.

Source: the recipe of Wang et al. 2022, scaled down to the 1,797 real 8 x 8 digits that come with scikit-learn.
Model: Classifier CrossFormer-32 of 1+1+2 blocks
Parameters: 572,814 with 10 classes
Published: none, it is vitjax's own
Measured here: top-1 99.7, 98.9 and 98.6 % with seeds 0, 1 and 2, in 2:26 to 2:54 on two shared CPU cores
"""

from vitjax import AdamW, Classification, CosineSchedule
from vitjax.backbones import CrossFormer
from vitjax.classification import Classifier, CrossEntropy, TopClasses
from vitjax.data import CenterCrop, DigitImages, RandAugment, RandomCrop


def experiment() -> Classification:
    """The run."""
    return Classification(
        model=Classifier(
            backbone=CrossFormer(
                channels=32,
                depths=(1, 1, 2),
                heads=(2, 4, 8),
                group_sizes=(4, 4, 2),
                intervals=(2, 1, 1),
                patch_kernels=(4, 8, 16),
                drop_path=0.1,
            )
        ),
        data=DigitImages(),
        augmentation=RandomCrop(
            size=32, area=(0.6, 1.0), aspect=(0.8, 1.25), flip=0.0, rand_augment=RandAugment(operations=0)
        ),
        resize=CenterCrop(size=32, resize=32),
        loss=CrossEntropy(smoothing=0.1),
        postprocess=TopClasses(),
        optimizer=AdamW(
            learning_rate=1e-3,
            weight_decay=0.05,
            decay_vectors=False,
            clip_norm=5.0,
            schedule=CosineSchedule(warmup_epochs=4, final=1e-2),
        ),
        epochs=60,
        batch_size=64,
        evaluate_every=10,
        save_every=10,
        log_every=10,
    )
