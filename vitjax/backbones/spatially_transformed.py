"""Any backbone behind a spatial transformer. Source: Jaderberg et al. 2015."""

import dataclasses

import flax.linen as nn
import jax.numpy as jnp

from vitjax.attention.spatial_transformer import SpatialTransformer
from vitjax.backbones.resnet import ResNet
from vitjax.structs import Feature, Images, Padding


class SpatiallyTransformed(nn.Module):
    """A backbone that sees the image as a spatial transformer has turned it, shifted it and cut it out.

    The backbone's variables have the places that they have without the transformer, so that its checkpoints fit.
    """

    backbone: nn.Module = dataclasses.field(default_factory=ResNet)
    """What turns the transformed image into feature maps."""
    transformer: SpatialTransformer = dataclasses.field(default_factory=SpatialTransformer)
    """What transforms the image; with `size` every image has this size from there on, and nothing is padding."""

    def setup(self) -> None:
        """Puts the backbone's variables beside those of the transformer."""
        nn.share_scope(self, self.backbone)

    def __call__(self, images: Images, *, padding: Padding = "exact", train: bool = False) -> tuple[Feature, ...]:
        """The backbone's feature maps of the transformed images."""
        seen = images.valid if padding == "exact" else None
        pixels = self.transformer(images.pixels, seen, train=train)
        valid = images.valid if self.transformer.size is None else jnp.ones(pixels.shape[:3], bool)
        return self.backbone(Images(pixels, valid), padding=padding, train=train)
