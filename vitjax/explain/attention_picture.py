"""The picture of what a query or a pixel attends to: a heat map over the image, and one for every head below it."""

import math
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from vitjax.errors import FieldError
from vitjax.explain.attention_maps import AttentionMap
from vitjax.explain.sampling_picture import COLORMAP, INK, PALE, QUERY
from vitjax.explain.seen_image import SeenImage

Line = tuple[str, float, dict[str, Any]]  # text, height in lines and style
BOLD: dict[str, Any] = {"fontsize": 14, "fontweight": "bold", "color": INK}
PLAIN: dict[str, Any] = {"fontsize": 10.5, "color": PALE}
GAP, LINE = 0.25, 0.23  # inches
_PANEL, _BAR, _FOOT = 5.6, 1.0, 0.72  # inches: side of a square panel; others have its area
_HEAD, _APART, _TITLE = 1.2, 0.2, 0.28  # inches: least width of a head's panel, space between them and above
_MAGNIFIED = 320  # pixels: fewer are enlarged so far that they are to be seen as such
_CELLS = 48  # a grid of more is too fine
_SIGNED = ("#38bdf8", "#1f2937", "#fb923c")  # below 0, at 0 and above it, where weights have both signs


def draw_attention(found: AttentionMap, path: Path, *, dpi: int = 150) -> Path:
    """Writes the picture: the mean of the heads, and below it each head alone; the path's suffix says in which format.

    Every small panel has a scale of its own, from 0 to the weight that is written above it. Gives the path.

    Raises:
        FieldError: the path is no .png, .pdf or .svg.
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

    require_format(path)
    across, down = panel_size(found.image, _PANEL)
    width = 2 * GAP + across + _BAR
    lines = heading(_title(found), _details(found), width - 2 * GAP)
    top = GAP + LINE * (0.4 + sum(step for _, step, _ in lines))
    heads = _heads(found, across, down, top + down + GAP)
    figure = Figure(figsize=(width, max([top + down, *(y + high for _, y, _, high in heads)]) + GAP + _FOOT), dpi=dpi)
    axes = place(figure, GAP, top, across, down)
    norm = Normalize(0, float(found.mean.max()))
    draw_heat(axes, found.image, found.cells, found.mean, norm)
    draw_grid(axes, found)
    draw_asked(axes, found, tagged=True)
    bar = place(figure, GAP + across + 0.15, top, 0.18, down)
    figure.colorbar(ScalarMappable(norm, COLORMAP), cax=bar).set_label("attention weight of a cell", color=INK)
    for head, weights, where in zip(found.heads, found.weights, heads, strict=False):
        one, most = place(figure, *where), float(weights.max())
        draw_heat(one, found.image, found.cells, weights, Normalize(0, most))
        draw_asked(one, found, line=1.0)
        one.set_title(f"Head {head}", loc="left", fontsize=9, fontweight="bold", color=INK, pad=3)
        one.set_title(f"to {most:.2g}", loc="right", fontsize=8.5, color=PALE, pad=3)
    write_lines(figure, lines)
    write_foot(figure, _keys(found), _summary(found))
    return saved(figure, path)


def _heads(found: AttentionMap, across: float, down: float, top: float) -> list[tuple[float, float, float, float]]:
    """Left, top, width and height in inches of each head's panel, below a panel of that width and height."""
    heads = len(found.heads)
    if heads == 1:
        return []
    columns = min(heads, max(1, int((across + _APART) / (_HEAD + _APART))))
    columns = -(-heads // -(-heads // columns))  # as many in the last row, if it can be
    wide = (across + _APART) / columns - _APART
    high = wide * down / across
    places = (divmod(index, columns) for index in range(heads))
    rows = _TITLE + high + _APART / 2
    return [(GAP + column * (wide + _APART), top + _TITLE + row * rows, wide, high) for row, column in places]


def require_format(path: Path) -> None:
    """Refuses a file that no picture can be written to.

    Raises:
        FieldError: the path is no .png, .pdf or .svg.
    """
    if path.suffix not in (".png", ".pdf", ".svg"):
        raise FieldError(f"the picture is written as .png, .pdf or .svg; got {path.name!r}.")


def panel_size(image: SeenImage, side: float) -> tuple[float, float]:
    """Width and height in inches of a panel with the area of a square of that side, no longer than twice of it."""
    across, down = image.extent[2:] - image.extent[:2]
    aspect = math.sqrt(down / across)
    longest = side * max(aspect, 1 / aspect)
    side *= min(1, 2 * side / longest)
    return side / aspect, side * aspect


def place(figure: Any, left: float, top: float, width: float, height: float) -> Any:
    """New axes, at inches from the figure's upper left corner."""
    across, down = figure.get_size_inches()
    return figure.add_axes((left / across, 1 - (top + height) / down, width / across, height / down))


def draw_image(axes: Any, image: SeenImage) -> None:
    """The image, nearly grey and dim; the axes are pixels of the original."""
    left, top, right, bottom = image.extent
    grey = image.pixels.mean(-1, keepdims=True)
    pixels = "nearest" if max(image.pixels.shape) < _MAGNIFIED else None
    faded = (0.7 * (0.25 * image.pixels + 0.75 * grey)).astype(np.uint8)
    axes.imshow(faded, extent=(left, right, bottom, top), interpolation=pixels, aspect="auto")
    axes.set(xlim=(left, right), ylim=(bottom, top), xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def draw_grid(axes: Any, found: AttentionMap) -> None:
    """The limits of the cells, where they are few."""
    if max(found.mean.shape) <= _CELLS:
        left, top, right, bottom = found.image.extent
        grid = {"colors": "white", "linewidth": 0.5, "alpha": 0.25, "zorder": 2}
        axes.vlines(found.cells[0, 1:, 0], top, bottom, **grid)
        axes.hlines(found.cells[1:, 0, 1], left, right, **grid)


def draw_asked(axes: Any, found: AttentionMap, *, line: float = 2.0, tagged: bool = False) -> None:
    """The box that is found or the cell of the pixel; with `tagged` the class at the box, or the pixel in the cell."""
    from matplotlib.patches import Rectangle

    left, top, right, bottom = found.box
    for color, width in (("white", 1.8 * line), (QUERY, line)):
        frame: dict[str, Any] = {"fill": False, "edgecolor": color, "linewidth": width, "zorder": 4}
        axes.add_patch(Rectangle((left, top), right - left, bottom - top, **frame))
        if tagged and found.pixel is not None and _is_roomy(found):
            centre, size = np.add(found.pixel, 0.5), 11 if color == "white" else 10
            axes.plot(*centre, marker="+", color=color, markersize=size, markeredgewidth=width, zorder=5)
    if tagged and found.pixel is None and found.score is not None:
        edge = found.image.extent
        corner = np.clip(found.box[:2], edge[:2], edge[2:])
        tag = {"facecolor": QUERY, "edgecolor": "none", "pad": 2, "alpha": 0.9}
        text = f"{found.label} {found.score:.2f}"
        axes.text(*corner, text, va="bottom", fontsize=9, color=INK, bbox=tag, parse_math=False, clip_on=True, zorder=6)


def draw_heat(
    axes: Any,
    image: SeenImage,
    cells: Float[np.ndarray, "rows columns 4"],
    weights: Float[np.ndarray, "rows columns"],
    norm: Any,
) -> None:
    """The image, and over it the weights, brought to its size; what has little weight is let through.

    A norm from below 0, which has 0 in its middle, gives weights of either sign a colour.
    """
    from matplotlib.colors import LinearSegmentedColormap

    draw_image(axes, image)
    limits = axes.axis()
    most = max(-norm.vmin, norm.vmax, 1e-12)
    left, top, right, bottom = *cells[0, 0, :2], *cells[-1, -1, 2:]
    axes.imshow(
        weights,
        cmap=COLORMAP if norm.vmin >= 0 else LinearSegmentedColormap.from_list("signed", _SIGNED),
        norm=norm,
        alpha=0.35 + 0.55 * np.sqrt(np.abs(weights) / most),
        extent=(left, right, bottom, top),
        interpolation="catrom",  # as smooth as cubic, and a cell's centre keeps its weight
        aspect="auto",
        zorder=1.5,
    )
    axes.axis(limits)  # the last cells may reach beyond the image


def _is_roomy(found: AttentionMap) -> bool:
    """Whether a pixel can be marked inside the cell of its token without hiding it."""
    edge = found.image.extent
    return bool(np.all(found.box[2:] - found.box[:2] > 0.04 * (edge[2:] - edge[:2])))


def heading(title: str, details: str, inches: float) -> list[Line]:
    """The lines above the panels."""
    return [
        *((line, 1.45, BOLD) for line in textwrap.wrap(title, int(8.2 * inches))),
        *((line, 1.0, PLAIN) for line in textwrap.wrap(details, int(11.8 * inches))),
    ]


def write_lines(figure: Any, lines: list[Line]) -> None:
    """Writes the heading."""
    width, height = figure.get_size_inches()
    top = GAP
    for text, step, style in lines:
        figure.text(GAP / width, 1 - top / height, text, va="top", parse_math=False, **style)
        top += step * LINE


def write_foot(figure: Any, keys: list[Any], text: str) -> None:
    """The legend in a row, and a line of text under it."""
    width, height = figure.get_size_inches()
    style = {"frameon": False, "fontsize": 9.5, "borderpad": 0, "borderaxespad": 0, "handletextpad": 0.5}
    where = {"loc": "lower left", "bbox_to_anchor": (GAP / width, 0.45 / height), "ncols": len(keys)}
    figure.legend(handles=keys, handlelength=1.6, columnspacing=1.5, **where, **style)
    figure.text(GAP / width, 0.17 / height, text, fontsize=9.5, color=PALE, parse_math=False)


def pixel_keys(found: AttentionMap, box: str) -> list[Any]:
    """What the marks of a pixel and its cell mean."""
    from matplotlib.lines import Line2D

    style: dict[str, Any] = {"linestyle": "", "color": QUERY, "markersize": 11, "markeredgewidth": 2.4}
    return [*([Line2D([], [], marker="+", label="pixel", **style)] if _is_roomy(found) else []), frame_key(box)]


def frame_key(label: str) -> Any:
    """What a frame means."""
    from matplotlib.patches import Patch

    return Patch(fill=False, edgecolor=QUERY, linewidth=1.8, label=label)


def saved(figure: Any, path: Path) -> Path:
    """Writes the figure, in a new folder if need be; gives the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    return path


def percent(share: float) -> str:
    """A share as people read it."""
    return f"{100 * share:.0f} %" if share >= 0.1 or share == 0 else f"{100 * share:.1g} %"


def _title(found: AttentionMap) -> str:
    if found.pixel is not None:
        return f"What {found.query} attends to"
    return f"What {found.query} attends to for “{found.label}”, score {found.score:.2f}"


def _details(found: AttentionMap) -> str:
    who = f"mean of {len(found.heads)} heads" if len(found.heads) > 1 else f"head {found.heads[0]}"
    rows, columns = found.mean.shape
    return f"{found.place.capitalize()}, {who}, over {rows} x {columns} cells."


def _keys(found: AttentionMap) -> list[Any]:
    return [frame_key("box it finds")] if found.pixel is None else pixel_keys(found, "cell of its token")


def _summary(found: AttentionMap) -> str:
    """How far the weight is spread, and what part of it lies in the box."""
    ranked = np.sort(found.mean, axis=None)[::-1].cumsum()
    half = int(np.searchsorted(ranked, 0.5 * ranked[-1])) + 1
    where = "box" if found.pixel is None else "pixel's own cell"
    text = f"Half of the weight lies on {half} of {ranked.size} cells; the {where} has {percent(found.in_box)} of it."
    padding = found.on_padding
    return text + (f" {percent(padding)} lies on padding." if padding > 1e-4 else "")
