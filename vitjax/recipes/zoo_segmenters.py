"""The scenes of digits on which heads of the zoo are compared."""

import flax.linen as nn

from vitjax.backbones.resnet import ResNet
from vitjax.data.digit_maps import DigitMaps
from vitjax.data.transforms import Augmentation, Resize
from vitjax.runs.optimizer import AdamW, CosineSchedule
from vitjax.segmentation.fcn_head import FCNHead
from vitjax.segmentation.label_map import BestLabel
from vitjax.segmentation.pixel_loss import PixelCrossEntropy
from vitjax.segmentation.segmenter import Segmenter
from vitjax.tasks.segmentation import Segmentation


def zoo_scenes(head: nn.Module) -> Segmentation:
    """A small segmenter that labels every pixel of scenes of digits, most of which no single cell sees whole.

    The same for every head of the zoo, so that what differs is the head alone: about two minutes on two CPU cores.
    """
    backbone = ResNet(depth=18, width=32, stage_blocks=(1, 1), dilation=True, norm="group")  # 16 x 16 cells of 4 pixels
    return Segmentation(
        model=Segmenter(backbone=backbone, head=head, auxiliary=FCNHead(channels=32, norm="group")),
        data=DigitMaps(
            min_size=28, max_size=44, max_digits=2, clutter=0.0, min_contrast=0.5, max_contrast=1.0, train_images=12_800
        ),
        augmentation=Augmentation(flip=0.0, sizes=(), max_side=None, crop=0.0),
        resize=Resize(size=None, max_side=None),
        loss=PixelCrossEntropy(),
        postprocess=BestLabel(),
        optimizer=AdamW(learning_rate=3e-3, clip_norm=1.0, schedule=CosineSchedule(warmup_steps=100, final=0.01)),
        epochs=2,
        evaluate_every=0.5,
        log_every=50,
    )
