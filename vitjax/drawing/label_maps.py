"""Pictures of label maps: the classes in colours over the image, with what they are called beneath."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from vitjax.data.source import NO_LABEL
from vitjax.drawing.boxes import DARK, LIGHT, Color, enlarged, label_color
from vitjax.prediction import Labelling

BACKGROUND = "background"
"""The name of the class that is not coloured."""

_OPACITY = 0.6
_NO_COLOR: Color = (128, 128, 128)


def map_colors(names: Sequence[str]) -> UInt8[np.ndarray, "256 3"]:
    """The colour of every label; background is black, and what has no name is grey."""
    colors = np.full((256, 3), _NO_COLOR, np.uint8)
    for label, name in enumerate(names):
        colors[label] = (0, 0, 0) if name == BACKGROUND else label_color(name or str(label), names)
    return colors


def label_picture(label_map: UInt8[np.ndarray, "height width"], names: Sequence[str]) -> Image.Image:
    """The map as a palette image: pixels are the labels themselves, and viewers show them in colours."""
    picture = Image.fromarray(label_map)
    picture.putpalette(map_colors(names).ravel().tolist())
    return picture


def draw_label_map(
    image: UInt8[np.ndarray, "height width 3"], label_map: UInt8[np.ndarray, "height width"], names: Sequence[str]
) -> UInt8[np.ndarray, "drawn_height drawn_width 3"]:
    """The image with its labels translucently over it, enlarged until it can be seen.

    What is background, or has no label, is left as it is.

    Raises:
        ValueError: the map is not as large as the image.
    """
    if image.shape[:2] != label_map.shape:
        raise ValueError(f"a label map is drawn on an image of its size; got {label_map.shape} on {image.shape}.")
    blank = [label for label, name in enumerate(names) if name == BACKGROUND]
    covered = ~np.isin(label_map, [*blank, NO_LABEL])[..., None]
    mixed = (1 - _OPACITY) * image + _OPACITY * map_colors(names)[label_map]
    return enlarged(np.where(covered, mixed.round(), image).astype(np.uint8))


def legend(told: Labelling, names: Sequence[str]) -> dict[str, Color]:
    """The colours of the classes on an image, the largest first, without the background."""
    colors = map_colors(names)
    shown = [pair for pair in zip(told.labels, told.names, strict=True) if pair[0] != NO_LABEL]
    return {name: tuple(colors[label].tolist()) for label, name in shown if name != BACKGROUND}


def with_legend(
    picture: UInt8[np.ndarray, "height width 3"], entries: Mapping[str, Color]
) -> UInt8[np.ndarray, "drawn_height width 3"]:
    """The picture with names and their colours in rows beneath it; without any it is as it was."""
    if not entries:
        return picture
    size = min(max(13, round(0.035 * picture.shape[1])), 24)
    font = ImageFont.load_default(size)
    places, left, row = [], size // 2, 0
    for name in entries:
        width = 2 * size + round(font.getlength(name))
        if left > size // 2 and left + width > picture.shape[1]:
            left, row = size // 2, row + 1
        places.append((left, row))
        left += width
    line = round(1.6 * size)
    page = Image.new("RGB", (picture.shape[1], picture.shape[0] + (row + 1) * line), LIGHT)
    page.paste(Image.fromarray(picture))
    canvas = ImageDraw.Draw(page)
    for (name, color), (left, row) in zip(entries.items(), places, strict=True):
        middle = picture.shape[0] + row * line + line // 2
        box = (left, middle - size // 2, left + size, middle + size // 2)
        canvas.rectangle(box, fill=color, outline=DARK)
        canvas.text((left + 1.4 * size, middle), name, fill=DARK, font=font, anchor="lm")
    return np.array(page)
