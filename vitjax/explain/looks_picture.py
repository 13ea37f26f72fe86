"""The picture of where attention modules look: one panel for each module."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vitjax.explain.attention_picture import (
    GAP,
    LINE,
    draw_heat,
    draw_image,
    frame_key,
    heading,
    panel_size,
    place,
    require_format,
    saved,
    write_foot,
    write_lines,
)
from vitjax.explain.looks import Gates, Glimpses, Heat, Look, Looks, Outline
from vitjax.explain.sampling_picture import COLORMAP, INK, PALE, QUERY

_PANEL, _TITLE, _FOOT, _LEAST = 3.6, 0.52, 0.6, 5.4  # inches; the last is the least width of the picture
_ROW = 3  # panels in a row, at most
_BEYOND = 0.015  # of a panel: how far lines reach beyond it, so that one at its edge is whole


def draw_looks(found: Looks, pixel: tuple[int, int], path: Path, *, dpi: int = 150) -> tuple[Look, ...]:
    """Writes the picture of what modules do for the pixel (x, y); the path's suffix says in which format.

    Every heat map has a scale of its own, to the value that is written above it. Gives what is drawn.

    Raises:
        ValueError: there is no such pixel, or the path is no .png, .pdf or .svg.
    """
    from matplotlib.figure import Figure

    require_format(path)
    drawn = found.of_pixel(*pixel)
    across, down = panel_size(found.image, _PANEL)
    columns = min(_ROW, len(drawn))
    columns = math.ceil(len(drawn) / math.ceil(len(drawn) / columns))  # as many in the last row, if it can be
    rows = math.ceil(len(drawn) / columns)
    width = max(_LEAST, GAP + columns * (across + GAP))
    lines = heading(*_titles(found, drawn, pixel), width - 2 * GAP)
    top = GAP + LINE * (0.3 + sum(step for _, step, _ in lines))
    asked = any(isinstance(look, Heat) and look.box is not None for look in drawn)
    figure = Figure(figsize=(width, top + rows * (_TITLE + down + GAP) + (_FOOT if asked else 0)), dpi=dpi)
    for index, look in enumerate(drawn):
        row, column = divmod(index, columns)
        axes = place(figure, GAP + column * (across + GAP), top + row * (_TITLE + down + GAP) + _TITLE, across, down)
        _draw(axes, found, look)
        axes.text(0, 1.085, look.module, transform=axes.transAxes, fontsize=11, fontweight="bold", color=INK)
        axes.text(0, 1.02, _told(look), transform=axes.transAxes, fontsize=9, color=PALE)
    write_lines(figure, lines)
    if asked:
        signed = any(isinstance(look, Heat) and look.signed for look in drawn)
        text = f"Each map has a scale of its own, from 0 to its maximum{'; blue is below 0' if signed else ''}."
        write_foot(figure, [frame_key("cell of the pixel")], text)
    saved(figure, path)
    return drawn


def _draw(axes: Any, found: Looks, look: Look) -> None:
    from matplotlib.colors import Normalize

    if isinstance(look, Heat):
        draw_heat(axes, found.image, look.cells, look.values, Normalize(*_scale(look)))
        if look.box is not None:
            _frame(axes, look.box)
    elif isinstance(look, Outline):
        _draw_outline(axes, found, look)
    elif isinstance(look, Glimpses):
        _draw_glimpses(axes, found, look)
    elif isinstance(look, Gates):
        axes.bar(np.arange(len(look.values)), np.sort(look.values)[::-1], width=1.0, color="#22a884")
        axes.set(ylim=(0, 1), xlim=(-0.5, len(look.values) - 0.5), xticks=[], yticks=(0.25, 0.5, 0.75))
        axes.tick_params(colors=INK, labelsize=8, direction="in", pad=-26)
        axes.grid(axis="y", color="white", linewidth=0.6)
        axes.set_facecolor("#e5e7eb")
        axes.spines[:].set_visible(False)
    else:
        axes.imshow(look.values, cmap=COLORMAP, vmin=0, aspect="auto", interpolation="nearest")
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)


def _scale(look: Heat) -> tuple[float, float]:
    """The values of the first and the last colour: of a mask its least and greatest; of weights 0 and the greatest, or
    as far below 0 as above it if the module has negative ones."""
    low, high = float(look.values.min()), float(look.values.max())
    if look.signed:
        most = max(-low, high, 1e-12)
        return -most, most
    return (low if look.box is None else 0.0), high


def _draw_outline(axes: Any, found: Looks, look: Outline) -> None:
    """The rim of what is read, as far as it lies on the panel."""
    from matplotlib.transforms import Bbox, TransformedBbox

    draw_image(axes, found.image)
    limits = axes.axis()
    closed = np.concatenate([look.values, look.values[:1]])
    room = TransformedBbox(Bbox.from_extents(-_BEYOND, -_BEYOND, 1 + _BEYOND, 1 + _BEYOND), axes.transAxes)
    for color, width in (("white", 3.6), (QUERY, 2.0)):
        axes.plot(*closed.T, color=color, linewidth=width)[0].set_clip_box(room)
    axes.axis(limits)


def _draw_glimpses(axes: Any, found: Looks, look: Glimpses) -> None:
    """The parts in colours from the first to the last, joined by a line, with their numbers."""
    from matplotlib import colormaps

    draw_image(axes, found.image)
    limits = axes.axis()
    middles = (look.values[:, :2] + look.values[:, 2:]) / 2
    axes.plot(*middles.T, color="white", linewidth=1.2, alpha=0.8)
    colors = colormaps["plasma"](np.linspace(0.25, 0.95, len(look.values)))
    for number, (box, middle, color) in enumerate(zip(look.values, middles, colors, strict=True), start=1):
        _frame(axes, box, color)
        style: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 9, "color": INK, "clip_on": True}
        axes.text(*middle, str(number), bbox={"boxstyle": "circle,pad=0.2", "facecolor": color, "lw": 0}, **style)
    axes.axis(limits)


def _frame(axes: Any, box: np.ndarray, color: Any = QUERY) -> None:
    from matplotlib.patches import Rectangle

    left, top, right, bottom = box
    for shade, line in (("white", 3.0), (color, 1.8)):
        axes.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, ec=shade, lw=line, zorder=4))


def _told(look: Look) -> str:
    if isinstance(look, Heat) and look.box is not None:
        low = f"{look.values.min():.2g} " if look.signed else ""
        return f"{look.kind}, {low}to {look.values.max():.2g}"
    if isinstance(look, Heat | Gates):
        return f"{look.kind}: {look.values.min():.2f} to {look.values.max():.2f}"
    return look.kind


def _titles(found: Looks, drawn: Sequence[Look], pixel: tuple[int, int]) -> tuple[str, str]:
    of_pixel = any(isinstance(look, Heat) and look.box is not None for look in drawn)
    what = f"What pixel {pixel} attends to" if of_pixel else "Where the model looks"
    modules = "1 module" if len(drawn) == 1 else f"{len(drawn)} modules"
    if found.score is None:
        return what, f"{modules} of attention."
    return f"Predicted: “{found.label}”, probability {found.score:.2f}", f"{what}, {modules} of attention."
