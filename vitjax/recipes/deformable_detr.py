"""The recipes of Deformable DETR."""

from typing import Any

import flax.linen as nn

from vitjax.data.coco import CocoFolder
from vitjax.data.digits import Digits
from vitjax.data.transforms import Augmentation, Resize
from vitjax.detection.deformable_detr import DeformableDETR
from vitjax.detection.focal_loss import FocalSetLoss
from vitjax.detection.postprocess import TopDetections
from vitjax.recipes.detectors import COCO_CATEGORIES, RESNET_FROZEN, pretrained_for
from vitjax.runs.optimizer import AdamW, CosineSchedule, StepSchedule
from vitjax.tasks.detection import Detection


def deformable_detr_coco(backbone: nn.Module, *, frozen: tuple[str, ...] = RESNET_FROZEN, **changes: Any) -> Detection:
    """Deformable DETR trained on COCO, 50 epochs, 32 images a step in 4 parts; changes are those of the model.

    Source: Zhu et al. 2021, section 5 and the official main.py.
    """
    model = DeformableDETR(backbone=backbone, num_classes=COCO_CATEGORIES, **changes)
    return Detection(
        model=model,
        data=CocoFolder(labels="category_id"),
        loss=FocalSetLoss(),
        postprocess=TopDetections(),
        optimizer=_optimizer(model, frozen),
        epochs=50,
        batch_size=32,
        micro_batches=4,
        keep_before_drops=True,
        evaluate_every=1,
        save_every=1,
        pretrained=pretrained_for(backbone),
        workers=8,
    )


def deformable_detr_finetune(
    backbone: nn.Module, *, frozen: tuple[str, ...] = RESNET_FROZEN, **changes: Any
) -> Detection:
    """Deformable DETR that goes on from weights on a folder of one's own, 4 images a step; changes as above."""
    model = DeformableDETR(backbone=backbone, **changes)
    return Detection(
        model=model,
        data=CocoFolder(),
        loss=FocalSetLoss(),
        postprocess=TopDetections(),
        optimizer=_optimizer(model, frozen),
        epochs=50,
        batch_size=4,
        micro_batches=2,
        workers=4,
    )


def deformable_detr_digits(backbone: nn.Module, *, epochs: float, warmup_steps: int) -> Detection:
    """A small Deformable DETR that learns to find digits in scenes of 64 x 64 pixels, on a CPU."""
    return Detection(
        model=DeformableDETR(
            backbone=backbone,
            num_queries=10,
            channels=128,
            encoder_layers=1,
            decoder_layers=2,
            feed_forward=256,
            dropout=0.0,
            levels=2,
            backbone_levels=1,
            refine=True,
        ),
        data=Digits(min_size=20, clutter=0.0, min_contrast=0.5, max_contrast=1.0, train_images=12_800),
        augmentation=Augmentation(flip=0.0, sizes=(), max_side=None, crop=0.0),
        resize=Resize(size=None, max_side=None),
        loss=FocalSetLoss(),
        postprocess=TopDetections(),
        optimizer=AdamW(
            learning_rate=1e-3, clip_norm=1.0, schedule=CosineSchedule(warmup_steps=warmup_steps, final=0.01)
        ),
        epochs=epochs,
        evaluate_every=0.5,
        log_every=50,
    )


def _optimizer(model: DeformableDETR, frozen: tuple[str, ...]) -> AdamW:
    # A two-stage model takes its reference points from proposals, so it has no layer of that name.
    slow = "sampling_offsets" if model.two_stage else "sampling_offsets|reference_points"
    multipliers = {"^backbone/": 0.1, slow: 0.1}
    return AdamW(learning_rate=2e-4, multipliers=multipliers, frozen=frozen, schedule=StepSchedule(drop_epochs=(40,)))
