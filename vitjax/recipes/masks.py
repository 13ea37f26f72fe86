"""The recipes of detectors with masks."""

from typing import Any

import flax.linen as nn

from vitjax.data.coco_masks import CocoMasks
from vitjax.data.coco_panoptic import CocoPanoptic
from vitjax.data.digit_masks import DigitMasks
from vitjax.data.transforms import Augmentation, Resize
from vitjax.detection.deformable_detr import DeformableDETR
from vitjax.detection.detr import DETR
from vitjax.detection.focal_loss import FocalSetLoss
from vitjax.recipes.detectors import COCO_CATEGORIES, RESNET_FROZEN, pretrained_for
from vitjax.runs.optimizer import AdamW, CosineSchedule, StepSchedule
from vitjax.segmentation.detr_masks import MaskDETR
from vitjax.segmentation.mask_loss import MaskLoss
from vitjax.segmentation.mask_postprocess import TopMasks
from vitjax.tasks.masks import MaskDetection

THINGS_AND_STUFF = 250
"""Labels are COCO's panoptic category ids, as in the published weights."""


def detr_panoptic_coco(backbone: nn.Module) -> MaskDetection:
    """The second stage of DETR's training on COCO's things and stuff: the mask head upon a detector that is frozen.

    Source: Carion et al. 2020, section 4.4 and its code: 25 epochs, learning rate down at 15, 16 images a step.
    """
    return _head_alone(
        DETR(backbone=backbone, num_classes=THINGS_AND_STUFF),
        data=CocoPanoptic(labels="category_id"),
        pretrained="a DETR of things and stuff: --init-from FILE, the published panoptic one or a run of yours",
        best="PQ",
    )


def detr_instances_coco(backbone: nn.Module) -> MaskDetection:
    """The same on COCO's instances, upon a published detector."""
    return _head_alone(
        DETR(backbone=backbone, num_classes=COCO_CATEGORIES),
        data=CocoMasks(labels="category_id"),
        pretrained="a DETR trained on COCO: --init-from FILE, a published one or a run of yours",
    )


def _head_alone(detector: DETR, **parts: Any) -> MaskDetection:
    return MaskDetection(
        model=MaskDETR(detector),
        optimizer=AdamW(frozen=("^detr/",), schedule=StepSchedule(drop_epochs=(15,))),
        epochs=25,
        micro_batches=4,
        keep_before_drops=True,
        evaluate_every=5,
        workers=8,
        **parts,
    )


def deformable_detr_panoptic_coco(backbone: nn.Module) -> MaskDetection:
    """Deformable DETR with masks on COCO's things and stuff, trained together as the detector is: 50 epochs.

    Source: the recipe of Zhu et al. 2021; nobody has published it with masks.
    """
    detector = DeformableDETR(backbone=backbone, num_classes=THINGS_AND_STUFF, refine=True)
    slow = {"^detr/backbone/": 0.1, "sampling_offsets|reference_points": 0.1}
    frozen = tuple(pattern.replace("^", "^detr/", 1) for pattern in RESNET_FROZEN)
    return MaskDetection(
        model=MaskDETR(detector, relative_attention=True),
        data=CocoPanoptic(labels="category_id"),
        loss=FocalSetLoss(),
        postprocess=TopMasks(),
        optimizer=AdamW(learning_rate=2e-4, multipliers=slow, frozen=frozen, schedule=StepSchedule(drop_epochs=(40,))),
        epochs=50,
        batch_size=32,
        micro_batches=8,
        keep_before_drops=True,
        evaluate_every=5,
        pretrained=pretrained_for(backbone),
        workers=8,
        best="PQ",
    )


def mask_digits(backbone: nn.Module, *, epochs: float) -> MaskDetection:
    """A small Deformable DETR with masks, trained together, that segments scenes of digits on paper, on a CPU."""
    detector = DeformableDETR(
        backbone=backbone,
        num_queries=12,
        channels=128,
        encoder_layers=1,
        decoder_layers=2,
        feed_forward=256,
        dropout=0.0,
        levels=2,
        backbone_levels=1,
        refine=True,
    )
    return MaskDetection(
        model=MaskDETR(detector, finer=2, relative_attention=True),
        data=DigitMasks(min_size=20, clutter=0.0, min_contrast=0.5, max_contrast=1.0, train_images=12_800),
        augmentation=Augmentation(flip=0.0, sizes=(), max_side=None, crop=0.0),
        resize=Resize(size=None, max_side=None),
        loss=FocalSetLoss(),
        mask_loss=MaskLoss(mask=5.0, dice=2.0),
        postprocess=TopMasks(k=20),
        optimizer=AdamW(learning_rate=1e-3, clip_norm=1.0, schedule=CosineSchedule(warmup_steps=100, final=0.01)),
        epochs=epochs,
        evaluate_every=0.5,
        log_every=50,
    )


def mask_small_data(backbone: nn.Module) -> MaskDetection:
    """A small Deformable DETR with masks for a few hundred images of things and stuff, from nothing, on a CPU."""
    detector = DeformableDETR(
        backbone=backbone,
        num_queries=60,
        channels=128,
        encoder_layers=1,
        decoder_layers=3,
        feed_forward=256,
        dropout=0.0,
        levels=3,
        backbone_levels=2,
        refine=True,
    )
    return MaskDetection(
        model=MaskDETR(detector, finer=2, relative_attention=True),
        data=CocoPanoptic(),
        augmentation=Augmentation(sizes=(224,), max_side=448, crop=0.0),
        resize=Resize(size=224, max_side=448),
        loss=FocalSetLoss(),
        postprocess=TopMasks(),
        optimizer=AdamW(learning_rate=6e-4, clip_norm=1.0, schedule=CosineSchedule(warmup_steps=100, final=0.01)),
        epochs=50,
        batch_size=8,
        evaluate_every=10,
        save_every=10,
        log_every=10,
        best="PQ",
    )
