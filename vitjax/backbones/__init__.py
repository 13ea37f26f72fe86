"""Floor 3: image in, feature maps at several strides out."""

from vitjax.backbones.crossformer import CrossFormer
from vitjax.backbones.resnet import ResNet

__all__ = ["CrossFormer", "ResNet"]
