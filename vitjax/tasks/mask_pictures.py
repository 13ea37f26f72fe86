"""Pictures of masks: over the image, beside the truth, and of a model that knows stuff the segment of every pixel."""

from typing import Any

import numpy as np
from PIL import Image as Pillow

from vitjax.data.masks import unpack
from vitjax.data.source import Classes, Sample
from vitjax.drawing.boxes import draw_boxes
from vitjax.drawing.masks import draw_masks, draw_segments
from vitjax.drawing.neighbours import colors_apart
from vitjax.inference.task import Image
from vitjax.prediction import Prediction, names_of
from vitjax.segmentation.panoptic import Panoptic

_GAP = 8  # pixels between truth and what is found
_HELD = 2**28  # bytes of masks that are kept while they are drawn


def with_masks(image: Image, shown: Prediction, classes: Classes, scale: float, *, scored: bool = True) -> Image:
    """The image, `scale` times as large, with masks and boxes; a mask has the colour of its box, and no neighbour's."""
    masks: Any = shown.masks
    if len(masks) * image.shape[0] * image.shape[1] <= _HELD:
        masks = [masks[row] for row in range(len(masks))]  # which are asked for twice
    colors = colors_apart(masks, shown.names, classes.names)
    drawn = draw_masks(image, masks, shown.names, colors=colors)
    scores = shown.scores if scored else None
    return draw_boxes(drawn, shown.boxes, shown.names, scores, colors=colors, scale=scale)


def beside_truth(sample: Sample, shown: Prediction, classes: Classes, scale: float) -> Image:
    """The true objects of a sample on the left and what is found on the right, each `scale` times as large."""
    planes: Any = sample.masks
    masks: Any = unpack(planes, len(sample.labels))
    order = np.argsort(masks.sum((1, 2)), kind="stable")  # the smallest on top, so that none hides another
    labels, alike = sample.labels[order], np.ones(len(order), np.float32)
    truth = Prediction(sample.boxes[order], alike, labels, names_of(classes, labels), masks[order])
    left = with_masks(sample.image, truth, classes, scale, scored=False)
    right = with_masks(sample.image, shown, classes, scale)
    return np.concatenate([left, np.full((len(left), _GAP, 3), 255, np.uint8), right], axis=1)


def segments_picture(image: Image, segments: Panoptic, classes: Classes) -> Pillow.Image:
    """The image with the segment of every pixel."""
    names = names_of(classes, range(1 + max([len(classes) - 1, *(one.label for one in segments.segments)])))
    return Pillow.fromarray(draw_segments(image, segments, names))
