"""A small Deformable DETR that learns to find handwritten digits, in minutes on a CPU and without any download.

Source: the recipe of Zhu et al. 2021, scaled down to 64 x 64 scenes and trained from random weights.
Published: none, it is vitjax's own
Measured here: AP50 0.94 with seeds 0, 1 and 2, in 2 to 3 minutes on two shared CPU cores
"""

from vitjax.backbones.resnet import ResNet
from vitjax.data.digits import Digits
from vitjax.data.transforms import Augmentation, Resize
from vitjax.detection.deformable_detr import DeformableDETR
from vitjax.detection.focal_loss import FocalSetLoss
from vitjax.detection.postprocess import TopDetections
from vitjax.runs.experiment import Experiment
from vitjax.runs.optimizer import AdamW, CosineSchedule


def experiment() -> Experiment:
    """The run."""
    return Experiment(
        model=DeformableDETR(
            backbone=ResNet(depth=18, width=32, stage_blocks=(1, 1), norm="group"),
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
        optimizer=AdamW(learning_rate=1e-3, clip_norm=1.0, schedule=CosineSchedule(warmup_steps=100, final=0.01)),
        epochs=1.5,
        evaluate_every=0.5,
        log_every=50,
    )
