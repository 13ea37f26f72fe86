"""What all pictures of an explanation are made of: a sheet with heading, panels and foot, and what panels show."""

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from matplotlib import colormaps
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from vitjax.errors import FieldError
from vitjax.explain.question import Question
from vitjax.explain.seen_image import Grid, SeenImage

COLORMAP = colormaps["viridis"]  # even steps of lightness, and none of the pink of what is asked
ASKED, INK, PALE, GREEN = "#ff4d7d", "#1f2937", "#6b7280", "#22a884"
GAP, LINE = 0.25, 0.23  # inches: space between panels, height of a line
_CELLS = 48  # a grid of more is too fine
_MAGNIFIED = 320  # pixels: fewer are enlarged so far that they are to be seen as such
_SIGNED = ("#38bdf8", "#1f2937", "#fb923c")  # below 0, at 0 and above it, where weights have both signs


class Sheet:
    """A figure in inches: a heading, rows of panels of one size with a title above each, a colour bar and a foot.

    Raises:
        FieldError: the path is no .png, .pdf or .svg.
    """

    def __init__(
        self,
        path: Path,
        heading: tuple[str, str],
        panel: tuple[float, float],
        *,
        rows: int = 1,
        columns: int = 1,
        title: float,
        foot: float,
        bar: float = 1.0,
        least: float = 0.0,
        dpi: int,
    ) -> None:
        """`panel` is (width, height), `title`, `foot` and `bar` what is left for these, `least` the least width."""
        if path.suffix not in (".png", ".pdf", ".svg"):
            raise FieldError(f"the picture is written as .png, .pdf or .svg; got {path.name!r}.")
        self._path, self._panel, self._columns, self._title = path, panel, columns, title
        self._width = width = max(least, columns * (panel[0] + GAP) + GAP + bar)
        bold: dict[str, Any] = {"fontsize": 14, "fontweight": "bold", "color": INK}
        plain: dict[str, Any] = {"fontsize": 10.5, "color": PALE}
        lines = [(line, 1.45, bold) for line in textwrap.wrap(heading[0], int(8.2 * (width - 2 * GAP)))]
        lines += [(line, 1.0, plain) for line in textwrap.wrap(heading[1], int(11.8 * (width - 2 * GAP)))]
        self.top = GAP + LINE * (0.3 + sum(step for _, step, _ in lines))
        self._panels = rows * (title + panel[1] + GAP)
        self._height = self.top + self._panels + foot
        self._figure = Figure(figsize=(width, self._height), dpi=dpi)
        y = GAP
        for text, step, style in lines:
            self._write(text, 1 - y / self._height, va="top", **style)
            y += step * LINE

    def _write(self, text: str, y: float, **style: Any) -> None:
        self._figure.text(GAP / self._width, y, text, parse_math=False, **style)

    def panel(self, index: int) -> Axes:
        """The axes of a panel."""
        row, column = divmod(index, self._columns)
        top = self._title + row * (self._title + self._panel[1] + GAP)
        return self.axes(GAP + column * (self._panel[0] + GAP), top, *self._panel)

    def axes(self, left: float, top: float, width: float, height: float) -> Axes:
        """New axes at a place below the heading."""
        wide, high = self._width, self._height
        return self._figure.add_axes((left / wide, 1 - (self.top + top + height) / high, width / wide, height / high))

    def bar(self, norm: Normalize, label: str, *, nearer: float = 0) -> None:
        """The scale of the colours, beside the panels, or so much nearer to them."""
        axes = self.axes(self._width - 1 - nearer, self._title, 0.18, self._panels - self._title - GAP)
        self._figure.colorbar(ScalarMappable(norm, COLORMAP), cax=axes).set_label(label, color=INK)

    def foot(
        self, keys: Sequence[Artist], text: str, *, columns: int = 0, low: tuple[float, float] = (0.45, 0.17)
    ) -> None:
        """The legend in a row, or in rows of `columns`, and a line of text under it; both end at these heights."""
        style: dict[str, Any] = {"frameon": False, "fontsize": 9.5, "borderpad": 0, "borderaxespad": 0}
        style |= {"handletextpad": 0.5, "handlelength": 1.6, "columnspacing": 1.5, "ncols": columns or len(keys)}
        where = GAP / self._width, low[0] / self._height
        self._figure.legend(handles=list(keys), loc="lower left", bbox_to_anchor=where, **style)
        self._write(text, low[1] / self._height, fontsize=9.5, color=PALE)

    def saved(self) -> Path:
        """Writes the picture, in a new folder if need be; gives the path."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._figure.savefig(self._path)
        return self._path


def panel_size(image: SeenImage, side: float) -> tuple[float, float]:
    """Width and height in inches of a panel with the area of a square of that side, no longer than twice of it."""
    across, down = image.extent[2:] - image.extent[:2]
    aspect = math.sqrt(down / across)
    longest = side * max(aspect, 1 / aspect)
    side *= min(1, 2 * side / longest)
    return side / aspect, side * aspect


def even_columns(panels: int, most: int) -> int:
    """Columns, at most so many, with which the last row has as many panels as the others, if it can be."""
    return -(-panels // -(-panels // most))


def draw_image(axes: Axes, image: SeenImage, *, colors: float = 0.25, shown: float | None = None) -> None:
    """The image, dim and with little of its colours; the axes are pixels of the original, of which `shown` are seen."""
    left, top, right, bottom = image.extent
    grey = image.pixels.mean(-1, keepdims=True)
    faded = (0.7 * (colors * image.pixels + (1 - colors) * grey)).astype(np.uint8)
    pixels = "nearest" if (shown or max(image.pixels.shape)) < _MAGNIFIED else None
    axes.imshow(faded, extent=(left, right, bottom, top), interpolation=pixels, aspect="auto")
    axes.set(xlim=(left, right), ylim=(bottom, top), xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def draw_cells(axes: Axes, grid: Grid, *, seen: float | None = None) -> None:
    """The limits of the cells, where they are few; so many are seen if not all."""
    if (seen or max(grid.tokens)) > _CELLS:
        return
    left, top, right, bottom = grid.image.extent
    style: dict[str, Any] = {"colors": "white", "linewidth": 0.5, "alpha": 0.25, "zorder": 2}
    axes.vlines(grid.cells[0, 1:, 0], top, bottom, **style)
    axes.hlines(grid.cells[1:, 0, 1], left, right, **style)


def draw_heat(axes: Axes, grid: Grid, weights: Float[np.ndarray, "rows columns"], norm: Normalize) -> None:
    """The image, and over it the weights, brought to its size; what has little weight is let through.

    A norm from below 0, which has 0 in its middle, gives weights of either sign a colour.
    """
    draw_image(axes, grid.image)
    limits = axes.axis()
    low, high = float(norm.vmin or 0), float(norm.vmax or 0)
    left, top, right, bottom = *grid.cells[0, 0, :2], *grid.cells[-1, -1, 2:]
    axes.imshow(
        weights,
        cmap=COLORMAP if low >= 0 else LinearSegmentedColormap.from_list("signed", _SIGNED),
        norm=norm,
        alpha=0.35 + 0.55 * np.sqrt(np.abs(weights) / max(-low, high, 1e-12)),
        extent=(left, right, bottom, top),
        interpolation="catrom",  # as smooth as cubic, and a cell's centre keeps its weight
        aspect="auto",
        zorder=1.5,
    )
    axes.axis(limits)  # the last cells may reach beyond the image


def draw_mask(axes: Axes, mask: Bool[np.ndarray, "height width"], question: Question, image: SeenImage) -> None:
    """The image, in colour where the mask covers it and dim elsewhere, with the box that is found."""
    left, top, right, bottom = image.extent
    draw_image(axes, image)
    covered = np.dstack([image.pixels, np.where(mask, 255, 0).astype(np.uint8)])
    axes.imshow(covered, extent=(left, right, bottom, top), interpolation="nearest", aspect="auto", zorder=1.5)
    if mask.any() and not mask.all():
        rows, columns = (np.arange(side) + 0.5 for side in mask.shape)
        axes.contour(columns, rows, mask, [0.5], colors=ASKED, linewidths=1.2)
    axes.set(xlim=(left, right), ylim=(bottom, top))
    draw_frame(axes, question.box, line=1.2, rim=2.2)
    title_panel(axes, "Mask", f"{percent(float(mask.mean()))} of the image")


def draw_frame(
    axes: Axes, box: Float[np.ndarray, "4"], *, color: Any = ASKED, line: float = 1.8, rim: float = 0, dashes: Any = "-"
) -> None:
    """A frame around a box; a white rim shows it on any background."""
    left, top, right, bottom = box
    for shade, width in (("white", rim), (color, line)):
        style: dict[str, Any] = {"fill": False, "ec": shade, "lw": width, "ls": dashes, "zorder": 4 if rim else 1}
        if width:
            axes.add_patch(Rectangle((left, top), right - left, bottom - top, **style))


def draw_cross(axes: Axes, place: Float[np.ndarray, "2"], *, size: float, line: float, rim: float, zorder: int) -> None:
    """A cross with a white rim at a place."""
    for color, large, width in (("white", size + 1, rim), (ASKED, size, line)):
        axes.plot(*place, marker="+", color=color, markersize=large, markeredgewidth=width, zorder=zorder)


def draw_tag(axes: Axes, question: Question, image: SeenImage, *, alpha: float = 0.9, zorder: float = 6) -> None:
    """What a query finds and its score, at its box."""
    corner = np.clip(question.box[:2], image.extent[:2], image.extent[2:])
    tag: dict[str, Any] = {"facecolor": ASKED, "edgecolor": "none", "pad": 2, "alpha": alpha}
    style: dict[str, Any] = {"va": "bottom", "fontsize": 9, "color": INK, "clip_on": True, "zorder": zorder}
    axes.text(corner[0], corner[1], f"{question.label} {question.score:.2f}", bbox=tag, parse_math=False, **style)


def draw_asked(axes: Axes, question: Question, image: SeenImage, *, line: float = 2.0, tagged: bool = False) -> None:
    """The box that is found or the cell of the pixel; with `tagged` the class at the box, or the pixel in the cell."""
    draw_frame(axes, question.box, line=line, rim=1.8 * line)
    if tagged and question.pixel is None:
        draw_tag(axes, question, image)
    elif tagged and question.pixel is not None and _is_roomy(question, image):
        draw_cross(axes, np.add(question.pixel, 0.5), size=10, line=line, rim=1.8 * line, zorder=5)


def asked_keys(question: Question, image: SeenImage, box: str) -> list[Artist]:
    """What the marks of `draw_asked` mean, of which the frame is called `box`."""
    roomy = question.pixel is not None and _is_roomy(question, image)
    return [*([cross_key("pixel")] if roomy else []), frame_key(box)]


def frame_key(label: str, line: Any = "-", *, color: Any = ASKED) -> Patch:
    """What a frame means."""
    return Patch(fill=False, edgecolor=color, linewidth=1.8, linestyle=line, label=label)


def cross_key(label: str) -> Line2D:
    """What a cross means."""
    return mark_key("+", label, color=ASKED, markersize=11, markeredgewidth=2.4)


def mark_key(marker: str, label: str, **style: Any) -> Line2D:
    """What a mark means."""
    return Line2D([], [], linestyle="", marker=marker, label=label, **style)


def title_panel(axes: Axes, name: str, note: str) -> None:
    """The name of a panel, and at the right what it shows."""
    axes.set_title(name, loc="left", fontsize=11, fontweight="bold", color=INK)
    axes.set_title(note, loc="right", fontsize=10.5, color=INK)


def of_heads(heads: tuple[int, ...]) -> str:
    """Whose weights are drawn, in words."""
    return f"mean of {len(heads)} heads" if len(heads) > 1 else f"head {heads[0]}"


def percent(share: float) -> str:
    """A share as people read it."""
    return f"{100 * share:.0f} %" if share >= 0.1 or share == 0 else f"{100 * share:.1g} %"


def _is_roomy(question: Question, image: SeenImage) -> bool:
    """Whether a pixel can be marked inside the cell of its token without hiding it."""
    return bool(np.all(question.box[2:] - question.box[:2] > 0.04 * (image.extent[2:] - image.extent[:2])))
