"""DETR with a mask for every query: instance and panoptic segmentation. Source: Carion et al. 2020, section 4.4."""

import dataclasses
from typing import Any, ClassVar

import flax.linen as nn
import jax.numpy as jnp

from vitjax.detection.detr import DETR
from vitjax.errors import FieldError
from vitjax.segmentation.mask_head import MaskAttention, MaskHead
from vitjax.structs import Images, MaskPredictions

FINER = 3
"""Feature maps of the backbone, besides the coarsest, that join on the way up."""


class MaskDETR(nn.Module):
    """A DETR, and upon it a mask of each of its queries at the resolution of the backbone's finest map.

    The masks are those of the last decoder layer. Published models are used with it; vitjax has no data with masks to
    train it on. For a training of your own there is `MaskLoss`.
    """

    task: ClassVar[str] = "detection"
    family: ClassVar[str] = "mask_detr"
    scores: ClassVar[str] = "softmax"
    makes_masks: ClassVar[bool] = True

    detr: DETR = dataclasses.field(default_factory=DETR)
    """The detector inside; its backbone has four feature maps, its channels are a multiple of 128."""

    @property
    def num_classes(self) -> int | None:
        """Number of class labels, without 'no object'."""
        return self.detr.num_classes

    @nn.compact
    def __call__(self, images: Images, *, train: bool) -> MaskPredictions:
        """Logits, boxes and masks.

        Raises:
            FieldError: the backbone has too few feature maps, or `num_classes` is still None.
        """
        inner = self.detr.inner(images, train=train)
        *finer, coarsest = inner.features
        if len(finer) < FINER:
            raise FieldError(
                f"masks need a backbone of {FINER + 1} feature maps or more; got {len(inner.features)} from a "
                f"{type(self.detr.backbone).__name__}."
            )
        seen = [dataclasses.replace(feature, valid=self._seen(feature.valid)) for feature in finer[: -FINER - 1 : -1]]
        memory = inner.memory.reshape(inner.projected.shape)
        attend = MaskAttention(self.detr.heads, self.detr.dtype, name="mask_attention")
        attention = attend(inner.queries[-1], memory, coarsest.valid)
        head = MaskHead(dtype=self.detr.dtype, name="mask_head")
        masks = head(inner.projected, attention, self._seen(coarsest.valid), tuple(seen))
        return MaskPredictions(inner.predictions, masks, finer[-FINER].valid)

    def _seen(self, valid: Any) -> Any:
        """The pixels that convolutions and norms see; in the published code those of the padding too."""
        return valid if self.detr.padding == "exact" else jnp.ones_like(valid)
