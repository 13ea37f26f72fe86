"""The recipes of DINO."""

from typing import Any

import flax.linen as nn

from vitjax.data.coco import CocoFolder
from vitjax.detection.dino import DINO
from vitjax.detection.dino_loss import DINOLoss
from vitjax.detection.postprocess import TopDetections
from vitjax.recipes.detectors import COCO_CATEGORIES, RESNET_FROZEN, pretrained_for
from vitjax.runs.optimizer import AdamW, StepSchedule
from vitjax.tasks.detection import Detection


def dino_coco(
    backbone: nn.Module,
    *,
    epochs: int = 12,
    drop_epoch: int = 11,
    frozen: tuple[str, ...] = RESNET_FROZEN,
    **changes: Any,
) -> Detection:
    """DINO trained on COCO, 16 images a step in 2 parts of unlike sizes; changes are those of the model.

    Source: Zhang et al. 2022, section 4 and appendix D, and the official scripts.
    """
    return Detection(
        model=DINO(backbone=backbone, num_classes=COCO_CATEGORIES, **changes),
        data=CocoFolder(labels="category_id"),
        loss=DINOLoss(),
        postprocess=TopDetections(k=300),
        optimizer=_optimizer(frozen, drop_epoch),
        epochs=epochs,
        batch_size=16,
        micro_batches=2,
        keep_before_drops=True,
        evaluate_every=1,
        save_every=1,
        pretrained=pretrained_for(backbone),
        workers=8,
    )


def dino_finetune(backbone: nn.Module, *, frozen: tuple[str, ...] = RESNET_FROZEN, **changes: Any) -> Detection:
    """DINO that goes on from weights on a folder of one's own, 4 images a step; changes are those of the model."""
    return Detection(
        model=DINO(backbone=backbone, **changes),
        data=CocoFolder(),
        loss=DINOLoss(),
        postprocess=TopDetections(k=300),
        optimizer=_optimizer(frozen, drop_epoch=20),
        epochs=24,
        batch_size=4,
        micro_batches=2,
        workers=4,
    )


def _optimizer(frozen: tuple[str, ...], drop_epoch: int) -> AdamW:
    schedule = StepSchedule(drop_epochs=(drop_epoch,))
    return AdamW(multipliers={"^backbone/": 0.1}, frozen=frozen, schedule=schedule)
