"""A Conditional DETR with masks, which nobody has published."""

from vitjax.families.conditional_detr import FAMILY as DETECTOR
from vitjax.families.mask_detr import with_masks

FAMILY = with_masks(DETECTOR)
