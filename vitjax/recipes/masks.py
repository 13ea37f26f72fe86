"""The recipes of detectors with masks."""

import flax.linen as nn

from vitjax.data.digit_masks import DigitMasks
from vitjax.data.transforms import Augmentation, Resize
from vitjax.detection.deformable_detr import DeformableDETR
from vitjax.detection.focal_loss import FocalSetLoss
from vitjax.runs.optimizer import AdamW, CosineSchedule
from vitjax.segmentation.detr_masks import MaskDETR
from vitjax.segmentation.mask_loss import MaskLoss
from vitjax.segmentation.mask_postprocess import TopMasks
from vitjax.tasks.masks import MaskDetection


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
        model=MaskDETR(detector, finer=2),
        data=DigitMasks(min_size=20, clutter=0.0, min_contrast=0.5, max_contrast=1.0, train_images=12_800),
        augmentation=Augmentation(flip=0.0, sizes=(), max_side=None, crop=0.0),
        resize=Resize(size=None, max_side=None),
        loss=FocalSetLoss(),
        mask_loss=MaskLoss(),
        postprocess=TopMasks(k=20),
        optimizer=AdamW(learning_rate=1e-3, clip_norm=1.0, schedule=CosineSchedule(warmup_steps=100, final=0.01)),
        epochs=epochs,
        evaluate_every=0.5,
        log_every=50,
    )
