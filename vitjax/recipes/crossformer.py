"""The recipe of CrossFormer on ImageNet."""

from vitjax.backbones.crossformer import CrossFormer
from vitjax.classification.classifier import Classifier
from vitjax.classification.erasing import Erasing
from vitjax.classification.loss import CrossEntropy
from vitjax.classification.mixing import Mixing
from vitjax.classification.postprocess import TopClasses
from vitjax.data.crops import CenterCrop, RandomCrop
from vitjax.data.tfds_labels import TfdsLabels
from vitjax.runs.optimizer import AdamW, CosineSchedule
from vitjax.tasks.classification import Classification


def crossformer_imagenet(backbone: CrossFormer) -> Classification:
    """A CrossFormer trained on ImageNet-1k from random weights, 300 epochs at 224 x 224.

    Source: Wang et al. 2022, section 4.1, and the official config.py (base learning rate for 512 images a step; each of
    8 GPUs mixes its own 128).
    """
    return Classification(
        model=Classifier(backbone=backbone, num_classes=1000),
        data=TfdsLabels(),
        augmentation=RandomCrop(),
        erasing=Erasing(),
        mixing=Mixing(group=128),
        resize=CenterCrop(),
        loss=CrossEntropy(smoothing=0.1),
        postprocess=TopClasses(),
        optimizer=AdamW(
            learning_rate=5e-4,
            reference_batch_size=512,
            weight_decay=0.05,
            decay_vectors=False,
            clip_norm=5.0,
            schedule=CosineSchedule(warmup_epochs=20, warmup_start=1e-3, final=1e-2),
        ),
        epochs=300,
        batch_size=1024,
        evaluation_batch_size=256,
        evaluate_every=5,
        save_every=1,
        workers=16,
    )
