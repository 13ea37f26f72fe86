"""Semantic segmentation: a class for every pixel, by a dense head on the coarsest feature map of a backbone."""

import dataclasses
import functools
from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from vitjax.backbones.resnet import ResNet
from vitjax.errors import FieldError
from vitjax.ops.padded_maps import resize_within
from vitjax.ops.resize import resize_bilinear
from vitjax.segmentation.fcn_head import FCNHead
from vitjax.structs import Feature, Images, Padding, PixelLogits

MOST_CLASSES = 255  # a label map is a byte per pixel, and 255 says that a label is not known


class Segmenter(nn.Module):
    """Backbone, dense head, and an auxiliary head for training, enlarged to the pixels of the image.

    The enlargement is bilinear with the centres of the corner cells on those of the corner pixels (align_corners). In
    exact padding these are the corners of each image, not those of the batch.

    Sources: Long et al. 2015 (FCN); Zhao et al. 2017, section 3.3 (auxiliary head on the second coarsest stage).
    """

    task: ClassVar[str] = "segmentation"
    family: ClassVar[str] = "segmenter"
    scores: ClassVar[str] = "classes"

    backbone: nn.Module = dataclasses.field(default_factory=functools.partial(ResNet, dilation=True))
    """What turns the image into feature maps; the coarsest is used."""
    head: nn.Module = dataclasses.field(default_factory=FCNHead)
    """What turns the coarsest map into logits of its cells: FCNHead, DualAttentionHead or CrissCrossHead."""
    auxiliary: FCNHead | None = None
    """A head on the second coarsest map, which only helps to train; None has none."""
    num_classes: int | None = None
    """Number of class labels, the background included, 255 at most; None takes it from the data."""
    padding: Padding = "exact"
    """'exact': a padded image gives what it gives alone; 'reference': padding leaks as in the published code."""

    @nn.compact
    def __call__(self, images: Images, *, train: bool) -> PixelLogits:
        """Logits of every pixel over the classes, in float32: the head's outputs, the main one first.

        Raises:
            FieldError: `num_classes` is still None or too many, or there is no map for the auxiliary head.
        """
        if self.num_classes is None:
            raise FieldError(
                "Segmenter needs num_classes; got None. Training fills it in from the data, or set it yourself."
            )
        if self.num_classes > MOST_CLASSES:
            raise FieldError(f"a label map has {MOST_CLASSES} classes at most; got num_classes={self.num_classes}.")
        features = self.backbone(images, padding=self.padding, train=train)

        def logits_of(head: nn.Module, feature: Feature) -> list[Array]:
            exact = self.padding == "exact"
            cells = head(feature.values, feature.valid if exact else None, num_classes=self.num_classes, train=train)
            if exact:
                return [resize_within(each, feature.valid, images.valid) for each in cells]
            size = images.valid.shape[1], images.valid.shape[2]
            return [resize_bilinear(each, size, align_corners=True) for each in cells]

        outputs = jnp.stack(logits_of(self.head, features[-1]))
        if self.auxiliary is None:
            return PixelLogits(outputs)
        if len(features) < 2:
            raise FieldError(
                "the auxiliary head sits on the second coarsest map and the backbone gives only one; "
                "leave out auxiliary or take a backbone of two stages or more."
            )
        return PixelLogits(outputs, logits_of(self.auxiliary, features[-2])[0])
