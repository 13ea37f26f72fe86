"""A small Deformable DETR with a CrossFormer backbone that learns to find handwritten digits on a CPU.

Source: the quickstart with Wang et al. 2022's backbone, scaled down, in place of the residual network.
Published: none, it is vitjax's own
Measured here: AP50 0.91 with seed 0, in 3 minutes on two shared CPU cores
"""

from vitjax.backbones.crossformer import CrossFormer
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
            backbone=CrossFormer(
                channels=32,
                depths=(1, 2),
                heads=(2, 4),
                group_sizes=(4, 4),
                intervals=(4, 2),
                patch_kernels=(4, 8),
                drop_path=0.0,
            ),
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
        optimizer=AdamW(learning_rate=1e-3, clip_norm=1.0, schedule=CosineSchedule(warmup_steps=200, final=0.01)),
        epochs=2,
        evaluate_every=0.5,
        log_every=50,
    )
