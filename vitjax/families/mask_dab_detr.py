"""A DAB-DETR with masks, which nobody has published."""

from vitjax.families.dab_detr import FAMILY as DETECTOR
from vitjax.families.mask_detr import with_masks

FAMILY = with_masks(DETECTOR)
