"""Segmenters: a dense head on a backbone, which nobody has published in files that are read here."""

from vitjax.families.family import Family
from vitjax.segmentation.label_map import BestLabel
from vitjax.segmentation.pixel_loss import PixelCrossEntropy
from vitjax.segmentation.segmenter import Segmenter

FAMILY = Family(model=Segmenter, loss=PixelCrossEntropy, postprocess=BestLabel)
