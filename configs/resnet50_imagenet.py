"""ResNet-50 on ImageNet-1k at 224 x 224, in 100 epochs.

    python train.py resnet50_imagenet --data.root /data/imagenet

The folder holds train/ and val/ with a folder for each class; --data.data-dir FOLDER reads what TFDS has prepared.
Source: He et al. 2016 with the optimizer and augmentation of today's recipes, as in Wightman et al. 2021 (A3): AdamW,
mixup, cutmix and RandAugment in place of SGD and crops alone.
Model: Classifier ResNet-50
Parameters: 25,557,032 with 1,000 classes
Published: top-1 76.1 (torchvision, SGD) and 78.1 (A3, LAMB); none for this recipe
Measured here: not measured
"""

from vitjax import AdamW, Classification, CosineSchedule
from vitjax.backbones import ResNet
from vitjax.classification import Classifier, CrossEntropy, Mixing, TopClasses
from vitjax.data import CenterCrop, RandAugment, RandomCrop, TfdsLabels


def experiment() -> Classification:
    """The run."""
    return Classification(
        model=Classifier(backbone=ResNet(depth=50, norm="batch"), num_classes=1000, norm=False),
        data=TfdsLabels(),
        augmentation=RandomCrop(rand_augment=RandAugment(magnitude=6.0)),
        mixing=Mixing(mixup=0.1),
        resize=CenterCrop(),
        loss=CrossEntropy(smoothing=0.1),
        postprocess=TopClasses(),
        optimizer=AdamW(
            learning_rate=1e-3,
            reference_batch_size=1024,
            weight_decay=0.05,
            decay_vectors=False,
            clip_norm=5.0,
            schedule=CosineSchedule(warmup_epochs=5, warmup_start=1e-3),
        ),
        epochs=100,
        batch_size=1024,
        evaluation_batch_size=256,
        save_every=1,
        workers=16,
    )
