"""The recipes of Conditional DETR and DAB-DETR, which share their schedule."""

from typing import Any

import flax.linen as nn

from vitjax.data.coco import CocoFolder
from vitjax.detection.conditional_detr import ConditionalDETR
from vitjax.detection.dab_detr import DABDETR
from vitjax.detection.focal_loss import FocalSetLoss
from vitjax.detection.postprocess import TopDetections
from vitjax.recipes.detectors import COCO_CATEGORIES, RESNET_FROZEN, pretrained_for
from vitjax.runs.optimizer import AdamW, StepSchedule
from vitjax.tasks.detection import Detection


def conditional_detr_coco(backbone: nn.Module, **changes: Any) -> Detection:
    """Conditional DETR trained on COCO, 50 epochs, 16 images a step in 2 parts; changes are those of the model.

    Source: Meng et al. 2021, section 4 and the official main.py.
    """
    return _coco(ConditionalDETR(backbone=backbone, num_classes=COCO_CATEGORIES, **changes), **_CONDITIONAL)


def conditional_detr_finetune(backbone: nn.Module, **changes: Any) -> Detection:
    """Conditional DETR that goes on from weights on a folder of one's own, 4 images a step; changes as above."""
    return _finetune(ConditionalDETR(backbone=backbone, **changes), **_CONDITIONAL)


def dab_detr_coco(backbone: nn.Module, **changes: Any) -> Detection:
    """DAB-DETR trained on COCO, 50 epochs, 16 images a step in 2 parts; changes are those of the model.

    Source: Liu et al. 2022, section 5 and appendix A, and the official main.py.
    """
    return _coco(DABDETR(backbone=backbone, num_classes=COCO_CATEGORIES, **changes), **_DAB)


def dab_detr_finetune(backbone: nn.Module, **changes: Any) -> Detection:
    """DAB-DETR that goes on from weights on a folder of one's own, 4 images a step; changes are those of the model."""
    return _finetune(DABDETR(backbone=backbone, **changes), **_DAB)


_CONDITIONAL: dict[str, Any] = {"loss": FocalSetLoss(), "postprocess": TopDetections()}
_DAB: dict[str, Any] = {"loss": FocalSetLoss(classification=1.0), "postprocess": TopDetections(k=300)}


def _coco(model: ConditionalDETR | DABDETR, **parts: Any) -> Detection:
    return Detection(
        model=model,
        data=CocoFolder(labels="category_id"),
        optimizer=_optimizer(),
        epochs=50,
        batch_size=16,
        micro_batches=2,
        keep_before_drops=True,
        evaluate_every=1,
        save_every=1,
        pretrained=pretrained_for(model.backbone),
        workers=8,
        **parts,
    )


def _finetune(model: ConditionalDETR | DABDETR, **parts: Any) -> Detection:
    data, optimizer = CocoFolder(), _optimizer()
    return Detection(
        model=model, data=data, optimizer=optimizer, epochs=50, batch_size=4, micro_batches=2, workers=4, **parts
    )


def _optimizer() -> AdamW:
    return AdamW(multipliers={"^backbone/": 0.1}, frozen=RESNET_FROZEN, schedule=StepSchedule(drop_epochs=(40,)))
