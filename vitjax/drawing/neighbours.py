"""Colours of things on a picture of which no two that touch have the same."""

import colorsys
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from jaxtyping import Bool, Int

from vitjax.drawing.boxes import PALETTE, Color, label_color, spread_color
from vitjax.prediction import MaskRows

APART = 150.0
"""How far colours of neighbours are from each other, of 765 between black and white, while there are such colours."""

_NEAR = 200  # part of the longer side within which things are neighbours, though nothing of them touches
_FADED = ((0.45, 255), (0.45, 0))  # how much of a label's colour is white, or black, in its shades
_TURNS = (0.5, 0.33, 0.67, 0.17, 0.83)  # of its hue


def colors_apart(
    masks: MaskRows | Sequence[Bool[np.ndarray, "height width"]], labels: Sequence[str], names: Sequence[str] = ()
) -> list[Color]:
    """A colour for each mask, of which the first lie on top: its label's, or another where a neighbour has one like it.

    The first choose first, and shades of their label's colour before others. What touches what is asked of what is seen
    of the masks.
    """
    beside = neighbours(topmost(masks), len(masks))
    found: list[Color] = []
    for place, label in enumerate(labels):
        taken = [found[other] for other in np.flatnonzero(beside[place, :place])]
        found.append(_free(taken, _choices(label_color(label, names), len(taken))))
    return found


def topmost(masks: MaskRows | Sequence[Bool[np.ndarray, "height width"]]) -> Int[np.ndarray, "height width"]:
    """The first mask that covers each pixel, -1 where none does; of no masks there are no pixels."""
    owner = np.full(masks[0].shape if len(masks) else (0, 0), -1, np.int16)
    for place in reversed(range(len(masks))):
        owner[masks[place]] = place
    return owner


def neighbours(owner: Int[np.ndarray, "height width"], count: int) -> Bool[np.ndarray, "{count} {count}"]:
    """Which of so many things, of which each pixel tells whose it is, touch or are all but touching; -1 is nobody.

    Pixels touch at sides and corners. A gap of a 200th of the picture, along rows, columns and diagonals, still counts.
    """
    beside = np.zeros((count, count), bool)
    reach = max(1, max(owner.shape) // _NEAR)
    coarse = owner[:: max(1, reach // 2), :: max(1, reach // 2)]
    for pixels, step in ((owner, 1), (coarse, 1), (coarse, 2)):
        for down, across in ((0, step), (step, 0), (step, step), (step, -step)):
            here, there = _shifted(pixels, down, across)
            meet = np.nonzero(here != there)
            here, there = here[meet], there[meet]
            both = (here >= 0) & (there >= 0)
            beside[here[both], there[both]] = True
    return beside | beside.T


def _shifted(owner: np.ndarray, down: int, across: int) -> tuple[np.ndarray, np.ndarray]:
    """The pixels that have another so far below and to the right of them, and these."""
    height, width = owner.shape
    here = owner[: max(0, height - down), max(0, -across) : max(0, width - max(0, across))]
    there = owner[down:, max(0, across) : max(0, width + min(0, across))]
    return here, there


def _choices(color: Color, taken: int) -> Iterator[Color]:
    """A colour, its shades, those of other hues, the palette, and so many that the `taken` ones cannot be all."""
    yield color
    for share, towards in _FADED:
        yield _rgb((1 - share) * part + share * towards for part in color)
    hue, saturation, value = colorsys.rgb_to_hsv(*(part / 255 for part in color))
    for turn in _TURNS:
        yield _rgb(255 * part for part in colorsys.hsv_to_rgb((hue + turn) % 1, max(saturation, 0.6), value))
    yield from PALETTE
    yield from map(spread_color, range(taken + 1))


def _rgb(parts: Iterable[float]) -> Color:
    red, green, blue = (round(part) for part in parts)
    return red, green, blue


def _free(taken: Sequence[Color], choices: Iterable[Color]) -> Color:
    """The first choice that is far enough from all that is taken; the farthest where none is."""
    best, farthest = (0, 0, 0), -1.0
    for choice in choices:
        distance = min((_distance(choice, other) for other in taken), default=APART)
        if distance >= APART:
            return choice
        if distance > farthest:
            best, farthest = choice, distance
    return best


def _distance(one: Color, other: Color) -> float:
    """How different colours look, roughly: red, green and blue by weights that depend on how much red there is."""
    mean = (one[0] + other[0]) / 2
    red, green, blue = (float(mine - theirs) ** 2 for mine, theirs in zip(one, other, strict=True))
    return ((2 + mean / 256) * red + 4 * green + (2 + (255 - mean) / 256) * blue) ** 0.5
