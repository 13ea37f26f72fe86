"""EfficientNet-Lite0 on ImageNet-1k at 224 x 224, in 300 epochs.

    python train.py efficientnet_lite0_imagenet --data.root /data/imagenet

The folder holds train/ and val/ with a folder for each class; --data.data-dir FOLDER reads what TFDS has prepared.
Source: Tan and Le 2019, and tensorflow/tpu models/official/efficientnet/lite, with the optimizer and augmentation of
today's recipes (AdamW, milder RandAugment) in place of RMSProp and AutoAugment; dropout before the head is left out.
Model: Classifier EfficientNet-Lite0
Parameters: 4,652,008 with 1,000 classes
Published: top-1 75.1 (350 epochs of RMSProp); none for this recipe
Measured here: not measured
"""

from vitjax import AdamW, Classification, CosineSchedule
from vitjax.backbones import efficientnet_lite0
from vitjax.classification import Classifier, CrossEntropy, TopClasses
from vitjax.data import CenterCrop, RandAugment, RandomCrop, TfdsLabels


def experiment() -> Classification:
    """The run."""
    return Classification(
        model=Classifier(
            backbone=efficientnet_lite0(head=True, norm="batch", drop_path=0.2), num_classes=1000, norm=False
        ),
        data=TfdsLabels(),
        augmentation=RandomCrop(rand_augment=RandAugment(magnitude=6.0)),
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
        epochs=300,
        batch_size=1024,
        evaluation_batch_size=256,
        save_every=1,
        workers=16,
    )
