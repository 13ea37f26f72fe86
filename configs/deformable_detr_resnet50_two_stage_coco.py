"""Two-stage Deformable DETR with a ResNet-50 and iterative refinement of the boxes on COCO.

    python train.py deformable_detr_resnet50_two_stage_coco --data.root /data/coco --init-from resnet50-0676ba61.pth

The weights are torchvision's V1, with which the published runs start too; or --init-from timm/resnet50.tv_in1k.
Source: Zhu et al. 2021, table 1 and its code: 50 epochs, learning rate down at 40, batch 32.
Model: DeformableDETR ResNet-50
Parameters: 40,959,129 with 91 classes, 222,400 more are frozen
Published: AP 46.9, 29.6 / 50.1 / 61.6 on small, medium and large objects
Measured here: not measured
"""

from vitjax import Experiment
from vitjax.backbones import ResNet
from vitjax.recipes import deformable_detr_coco


def experiment() -> Experiment:
    """The run; labels are COCO's category ids, as in the published weights."""
    return deformable_detr_coco(ResNet(depth=50), refine=True, two_stage=True)
