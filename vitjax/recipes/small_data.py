"""The recipe for a few hundred photographs on a CPU."""

from typing import Any

from vitjax.backbones.efficientnet_lite import efficientnet_lite0
from vitjax.data.augmentation_parts import ColorJitter
from vitjax.data.coco import CocoFolder
from vitjax.data.transforms import Augmentation, Resize
from vitjax.detection.deformable_detr import DeformableDETR
from vitjax.detection.dino import DINO
from vitjax.detection.dino_loss import DINOLoss
from vitjax.detection.focal_loss import FocalSetLoss
from vitjax.detection.postprocess import TopDetections
from vitjax.runs.optimizer import AdamW, CosineSchedule
from vitjax.tasks.detection import Detection

# What needs the least time to learn; docs/performance.md has what each part of the recipe brings.
_SMALL: dict[str, Any] = {
    "num_queries": None,
    "channels": 128,
    "encoder_layers": 1,
    "decoder_layers": 3,
    "feed_forward": 256,
    "dropout": 0.0,
    "levels": 3,
    "backbone_levels": 3,
}
_NO_DOUBLES = 0.65  # a model of so few steps still finds some objects twice


def deformable_detr_small_data() -> Detection:
    """A small two-stage Deformable DETR for 100 to 500 photographs on a CPU, from an EfficientNet-Lite0 of ImageNet."""
    model = DeformableDETR(backbone=efficientnet_lite0(), refine=True, two_stage=True, **_SMALL)
    return _small_data(model=model, loss=FocalSetLoss())


def dino_small_data() -> Detection:
    """The same with DINO."""
    return _small_data(model=DINO(backbone=efficientnet_lite0(), denoising=30, **_SMALL), loss=DINOLoss())


def _small_data(**parts: Any) -> Detection:
    return Detection(
        data=CocoFolder(),
        augmentation=Augmentation(sizes=(256,), max_side=512, crop=0.0, color_jitter=ColorJitter(0.5)),
        resize=Resize(size=256, max_side=512),
        postprocess=TopDetections(nms=_NO_DOUBLES),
        optimizer=AdamW(
            learning_rate=6e-4,
            multipliers={"^backbone/": 0.3},
            frozen=("^backbone/stem", "^backbone/stage_[1-3]/"),
            clip_norm=1.0,
            schedule=CosineSchedule(warmup_steps=100, final=0.01),
        ),
        epochs=25,
        least_steps=600,
        batch_size=8,
        buckets=3,
        evaluate_every=5,
        save_every=5,
        log_every=10,
        init_from="efficientnet-lite0",
        **parts,
    )
