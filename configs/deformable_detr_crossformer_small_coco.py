"""Deformable DETR with a CrossFormer-S and iterative refinement of the boxes on COCO.

Source: the recipe of Zhu et al. 2021, table 1, with the backbone of Wang et al. 2022; nobody has published the two
together. Start from ImageNet weights of the backbone: --init-from crossformer-s.safetensors (published names).
Published: none for this combination
Measured here: not measured
"""

from vitjax.backbones.crossformer import crossformer_small
from vitjax.data.coco import CocoFolder
from vitjax.detection.deformable_detr import DeformableDETR
from vitjax.detection.focal_loss import FocalSetLoss
from vitjax.detection.postprocess import TopDetections
from vitjax.runs.experiment import Experiment
from vitjax.runs.optimizer import AdamW, StepSchedule


def experiment() -> Experiment:
    """The run; labels are COCO's category ids, as in the other COCO configs."""
    return Experiment(
        model=DeformableDETR(backbone=crossformer_small(), num_classes=91, refine=True),
        data=CocoFolder(labels="category_id"),
        loss=FocalSetLoss(),
        postprocess=TopDetections(),
        optimizer=AdamW(
            learning_rate=2e-4,
            multipliers={"^backbone/": 0.1, "sampling_offsets|reference_points": 0.1},
            schedule=StepSchedule(drop_epochs=(40,)),
        ),
        epochs=50,
        batch_size=32,
        evaluate_every=1,
        save_every=1,
        workers=8,
    )
