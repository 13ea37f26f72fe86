"""The digits on which modules of the zoo are compared, and the small network that carries them."""

import flax.linen as nn

from vitjax.backbones.resnet import ResNet
from vitjax.classification.classifier import Classifier
from vitjax.classification.loss import CrossEntropy
from vitjax.classification.postprocess import TopClasses
from vitjax.data.crops import CenterCrop, RandomCrop
from vitjax.data.digit_canvas import DigitCanvas
from vitjax.data.rand_augment import RandAugment
from vitjax.runs.optimizer import AdamW, CosineSchedule
from vitjax.tasks.classification import Classification


def zoo_digits(backbone: nn.Module) -> Classification:
    """A small backbone that learns to name a digit, turned and among fragments of others, and sees no canvas twice.

    The same for every module of the zoo, so that what differs is the module alone: two or three minutes on a CPU core.
    """
    side = 24
    return Classification(
        model=Classifier(backbone=backbone, norm=False),
        data=DigitCanvas(
            size=side, digit=16, clutter=4, fragment=6, rotation=45.0, train_images=76_800, val_images=2_000
        ),
        augmentation=RandomCrop(  # none: every record is a canvas of its own
            size=side, area=(1.0, 1.0), aspect=(1.0, 1.0), flip=0.0, rand_augment=RandAugment(operations=0)
        ),
        resize=CenterCrop(size=side, resize=side),
        loss=CrossEntropy(),
        postprocess=TopClasses(),
        optimizer=AdamW(
            learning_rate=3e-3,
            weight_decay=0.01,
            decay_vectors=False,
            clip_norm=5.0,
            schedule=CosineSchedule(warmup_steps=50, final=1e-2),
        ),
        epochs=1,
        batch_size=64,
        evaluation_batch_size=200,
        evaluate_every=0.5,
        log_every=50,
    )


def zoo_resnet(attention: nn.Module | None = None, stages: tuple[int, ...] = ()) -> ResNet:
    """The plain network of the zoo, ResNet-8 as for CIFAR, or the same with attention in some of its three stages."""
    return ResNet(
        depth=20,
        stem="small",
        width=16,
        stage_blocks=(1, 1, 1),
        norm="batch",
        attention=attention,
        attention_stages=stages,
    )
