"""The picture of things and stuff that a panoptic model's masks make."""

from typing import Any

from PIL import Image

from vitjax.data.label_names import COCO_PANOPTIC, is_thing
from vitjax.data.source import Classes
from vitjax.drawing.masks import draw_segments
from vitjax.segmentation.panoptic import panoptic

FOLDER = "panoptic"


def panoptic_pictures(image: Any, found: Any, classes: Classes) -> dict[str, Image.Image]:
    """The picture by its folder, of a model that knows stuff; none of another."""
    if classes != COCO_PANOPTIC:
        return {}
    segments = panoptic(found.scores, found.labels, found.masks, is_thing=is_thing)
    return {FOLDER: Image.fromarray(draw_segments(image, segments, COCO_PANOPTIC.names))}
