"""Published recipes that several configs share."""

import flax.linen as nn

from vitjax.backbones.crossformer import CrossFormer
from vitjax.backbones.resnet import ResNet
from vitjax.classification.classifier import Classifier
from vitjax.classification.erasing import Erasing
from vitjax.classification.loss import CrossEntropy
from vitjax.classification.mixing import Mixing
from vitjax.classification.postprocess import TopClasses
from vitjax.data.crops import CenterCrop, RandomCrop
from vitjax.data.digit_canvas import DigitCanvas
from vitjax.data.digit_maps import DigitMaps
from vitjax.data.rand_augment import RandAugment
from vitjax.data.tfds_labels import TfdsLabels
from vitjax.data.transforms import Augmentation, Resize
from vitjax.runs.experiment import Experiment
from vitjax.runs.optimizer import AdamW, CosineSchedule
from vitjax.segmentation.fcn_head import FCNHead
from vitjax.segmentation.label_map import BestLabel
from vitjax.segmentation.pixel_loss import PixelCrossEntropy
from vitjax.segmentation.segmenter import Segmenter


def crossformer_imagenet(backbone: CrossFormer) -> Experiment:
    """A CrossFormer trained on ImageNet-1k from random weights, 300 epochs at 224 x 224.

    Source: Wang et al. 2022, section 4.1, and the official config.py (base learning rate for 512 images a step).
    """
    return Experiment(
        model=Classifier(backbone=backbone, num_classes=1000),
        data=TfdsLabels(),
        augmentation=RandomCrop(),
        erasing=Erasing(),
        mixing=Mixing(),
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


def zoo_digits(backbone: nn.Module) -> Experiment:
    """A small backbone that learns to name a digit, turned and among fragments of others, and sees no canvas twice.

    The same for every module of the zoo, so that what differs is the module alone: two or three minutes on a CPU core.
    """
    side = 24
    return Experiment(
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


def zoo_scenes(head: nn.Module) -> Experiment:
    """A small segmenter that labels every pixel of scenes of digits, most of which no single cell sees whole.

    The same for every head of the zoo, so that what differs is the head alone: about two minutes on two CPU cores.
    """
    backbone = ResNet(depth=18, width=32, stage_blocks=(1, 1), dilation=True, norm="group")  # 16 x 16 cells of 4 pixels
    return Experiment(
        model=Segmenter(backbone=backbone, head=head, auxiliary=FCNHead(channels=32, norm="group")),
        data=DigitMaps(
            min_size=28, max_size=44, max_digits=2, clutter=0.0, min_contrast=0.5, max_contrast=1.0, train_images=12_800
        ),
        augmentation=Augmentation(flip=0.0, sizes=(), max_side=None, crop=0.0),
        resize=Resize(size=None, max_side=None),
        loss=PixelCrossEntropy(),
        postprocess=BestLabel(),
        optimizer=AdamW(learning_rate=3e-3, clip_norm=1.0, schedule=CosineSchedule(warmup_steps=100, final=0.01)),
        epochs=2,
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
