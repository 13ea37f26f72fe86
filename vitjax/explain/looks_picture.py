"""The picture of where attention modules look: one panel for each module."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.transforms import Bbox, TransformedBbox

from vitjax.explain import picture
from vitjax.explain.looks import Look, Looks
from vitjax.explain.seen_image import SeenImage

_PANEL, _TITLE, _FOOT, _LEAST = 3.6, 0.52, 0.6, 5.4  # inches; the last is the least width of the picture
_ROW = 3  # panels in a row, at most
_BEYOND = 0.015  # of a panel: how far lines reach beyond it, so that one at its edge is whole


def draw_looks(found: Looks, pixel: tuple[int, int], path: Path, *, dpi: int = 150) -> tuple[Look, ...]:
    """Writes the picture of what modules do for the pixel (x, y); the path's suffix says in which format.

    Every heat map has a scale of its own, to the value that is written above it. Gives what is drawn.

    Raises:
        FieldError: there is no such pixel, or the path is no .png, .pdf or .svg.
    """
    drawn = found.of_pixel(*pixel)
    columns = picture.even_columns(len(drawn), min(_ROW, len(drawn)))
    of_pixel = any(look.box is not None for look in drawn)
    size, heading = picture.panel_size(found.image, _PANEL), _heading(found, drawn, pixel, of_pixel=of_pixel)
    rows, foot = -(-len(drawn) // columns), _FOOT if of_pixel else 0
    shape: dict[str, Any] = {"rows": rows, "columns": columns, "title": _TITLE, "foot": foot, "bar": 0, "least": _LEAST}
    sheet = picture.Sheet(path, heading, size, **shape, dpi=dpi)
    for index, look in enumerate(drawn):
        axes = sheet.panel(index)
        _draw(axes, look, found.image)
        axes.text(0, 1.085, look.module, transform=axes.transAxes, fontsize=11, fontweight="bold", color=picture.INK)
        axes.text(0, 1.02, _told(look), transform=axes.transAxes, fontsize=9, color=picture.PALE)
    if of_pixel:
        signed = "; blue is below 0" if any(look.signed for look in drawn) else ""
        text = f"Each map has a scale of its own, from 0 to its maximum{signed}."
        sheet.foot([picture.frame_key("cell of the pixel")], text)
    sheet.saved()
    return drawn


def _draw(axes: Axes, look: Look, image: SeenImage) -> None:
    if look.grid is not None:
        picture.draw_heat(axes, look.grid, look.values, Normalize(*_scale(look)))
        if look.box is not None:
            picture.draw_frame(axes, look.box, line=1.8, rim=3.0)
    elif look.form == "outline":
        _draw_outline(axes, look, image)
    elif look.form == "glimpses":
        _draw_glimpses(axes, look, image)
    elif look.form == "gates":
        axes.bar(np.arange(len(look.values)), np.sort(look.values)[::-1], width=1.0, color=picture.GREEN)
        axes.set(ylim=(0, 1), xlim=(-0.5, len(look.values) - 0.5), xticks=[], yticks=(0.25, 0.5, 0.75))
        axes.tick_params(colors=picture.INK, labelsize=8, direction="in", pad=-26)
        axes.grid(axis="y", color="white", linewidth=0.6)
        axes.set_facecolor("#e5e7eb")
    else:
        axes.imshow(look.values, cmap=picture.COLORMAP, vmin=0, aspect="auto", interpolation="nearest")
        axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def _scale(look: Look) -> tuple[float, float]:
    """The values of the first and the last colour: of a mask its least and greatest; of weights 0 and the greatest, or
    as far below 0 as above it if the module has negative ones."""
    low, high = float(look.values.min()), float(look.values.max())
    if look.signed:
        most = max(-low, high, 1e-12)
        return -most, most
    return (low if look.box is None else 0.0), high


def _draw_outline(axes: Axes, look: Look, image: SeenImage) -> None:
    """The rim of what is read, as far as it lies on the panel."""
    picture.draw_image(axes, image)
    limits = axes.axis()
    closed = np.concatenate([look.values, look.values[:1]])
    room = TransformedBbox(Bbox.from_extents(-_BEYOND, -_BEYOND, 1 + _BEYOND, 1 + _BEYOND), axes.transAxes)
    for color, width in (("white", 3.6), (picture.ASKED, 2.0)):
        axes.plot(*closed.T, color=color, linewidth=width)[0].set_clip_box(room)
    axes.axis(limits)


def _draw_glimpses(axes: Axes, look: Look, image: SeenImage) -> None:
    """The parts in colours from the first to the last, joined by a line, with their numbers."""
    picture.draw_image(axes, image)
    limits = axes.axis()
    middles = (look.values[:, :2] + look.values[:, 2:]) / 2
    axes.plot(*middles.T, color="white", linewidth=1.2, alpha=0.8)
    colors = colormaps["plasma"](np.linspace(0.25, 0.95, len(look.values)))
    for number, (box, middle, color) in enumerate(zip(look.values, middles, colors, strict=True), start=1):
        picture.draw_frame(axes, box, color=color, line=1.8, rim=3.0)
        style: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 9, "color": picture.INK, "clip_on": True}
        style["bbox"] = {"boxstyle": "circle,pad=0.2", "facecolor": color, "lw": 0}
        axes.text(middle[0], middle[1], str(number), **style)
    axes.axis(limits)


def _told(look: Look) -> str:
    if look.form not in ("heat", "gates"):
        return look.kind
    low, high = look.values.min(), look.values.max()
    if look.box is None:
        return f"{look.kind}: {low:.2f} to {high:.2f}"
    return f"{look.kind}, {f'{low:.2g} ' if look.signed else ''}to {high:.2g}"


def _heading(found: Looks, drawn: Sequence[Look], pixel: tuple[int, int], *, of_pixel: bool) -> tuple[str, str]:
    what = f"What pixel {pixel} attends to" if of_pixel else "Where the model looks"
    modules = "1 module" if len(drawn) == 1 else f"{len(drawn)} modules"
    if found.score is None:
        return what, f"{modules} of attention."
    return f"Predicted: “{found.label}”, probability {found.score:.2f}", f"{what}, {modules} of attention."
