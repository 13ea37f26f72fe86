"""The recipes of DETR."""

import flax.linen as nn

from vitjax.data.coco import CocoFolder
from vitjax.detection.detr import DETR
from vitjax.recipes.detectors import COCO_CATEGORIES, RESNET_FROZEN, pretrained_for
from vitjax.runs.optimizer import AdamW, StepSchedule
from vitjax.tasks.detection import Detection


def detr_coco(backbone: nn.Module, *, frozen: tuple[str, ...] = RESNET_FROZEN) -> Detection:
    """DETR trained on COCO as its released weights were: 500 epochs, 64 images a step, in 4 parts of unlike sizes.

    Source: Carion et al. 2020, section 4 and the official main.py.
    """
    return Detection(
        model=DETR(backbone=backbone, num_classes=COCO_CATEGORIES),
        data=CocoFolder(labels="category_id"),
        optimizer=_optimizer(frozen, drop_epoch=400),
        epochs=500,
        batch_size=64,
        micro_batches=4,
        keep_before_drops=True,
        evaluate_every=10,
        save_every=1,
        pretrained=pretrained_for(backbone),
        workers=8,
    )


def detr_finetune(backbone: nn.Module, *, frozen: tuple[str, ...] = RESNET_FROZEN) -> Detection:
    """DETR that goes on from weights on a folder of one's own: a tenth of the epochs, 4 images a step."""
    return Detection(
        model=DETR(backbone=backbone),
        data=CocoFolder(),
        optimizer=_optimizer(frozen, drop_epoch=40),
        epochs=50,
        batch_size=4,
        micro_batches=2,
        workers=4,
    )


def _optimizer(frozen: tuple[str, ...], *, drop_epoch: int) -> AdamW:
    schedule = StepSchedule(drop_epochs=(drop_epoch,))
    return AdamW(multipliers={"^backbone/": 0.1}, frozen=frozen, schedule=schedule)
