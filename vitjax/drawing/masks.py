"""Pictures of masks: colour over the image where objects are."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, UInt8

from vitjax.drawing.boxes import Color
from vitjax.drawing.neighbours import colors_apart
from vitjax.prediction import MaskRows
from vitjax.segmentation.panoptic import Panoptic

OPACITY = 0.45
"""Share of the colour in a pixel that is covered; the rim of a mask has nothing else."""


def draw_masks(
    image: UInt8[np.ndarray, "height width 3"],
    masks: MaskRows | Sequence[Bool[np.ndarray, "height width"]],
    labels: Sequence[str],
    *,
    names: Sequence[str] = (),
    colors: Sequence[Color] | None = None,
) -> UInt8[np.ndarray, "height width 3"]:
    """The image under every mask in its colour, with a rim; the first mask lies on top.

    Unless each mask has one of the `colors`, they are those of `colors_apart`: its label's, as in `draw_boxes`, or
    another where a neighbour has one like it.
    """
    picture = image.copy()
    chosen = colors_apart(masks, labels, names) if colors is None else colors
    for index in reversed(range(len(masks))):
        mask, color = masks[index], np.array(chosen[index])
        picture[mask] = np.round((1 - OPACITY) * picture[mask] + OPACITY * color).astype(np.uint8)
        picture[mask & ~_inner(mask)] = color
    return picture


def _inner(mask: Bool[np.ndarray, "height width"]) -> Bool[np.ndarray, "height width"]:
    """The pixels all of whose four neighbours, as far as there are such, are in the mask too."""
    inner = mask.copy()
    inner[1:] &= mask[:-1]
    inner[:-1] &= mask[1:]
    inner[:, 1:] &= mask[:, :-1]
    inner[:, :-1] &= mask[:, 1:]
    return inner


def draw_segments(
    image: UInt8[np.ndarray, "height width 3"], panoptic: Panoptic, names: Sequence[str]
) -> UInt8[np.ndarray, "height width 3"]:
    """The image under its segments, whose labels have these names, in colours that differ between neighbours."""
    masks = [panoptic.ids == segment.id for segment in panoptic.segments]
    return draw_masks(image, masks, [names[segment.label] for segment in panoptic.segments], names=names)
