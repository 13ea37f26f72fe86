"""The picture of where a query samples: the image once per level, with the points coloured by attention weight."""

import math
import textwrap
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from vitjax.errors import FieldError
from vitjax.explain.sampling_points import SamplingPoints

COLORMAP = "viridis"  # even steps of lightness, and none of the query's pink
DASHES = (0, (2, 2))
QUERY, INK, PALE, PAGE = "#ff4d7d", "#1f2937", "#6b7280", "#b4bcc7"
_PANEL = 4.2  # inches: side of a square panel; others have the same area
_GAP, _TITLE, _BAR, _LINE, _FOOT = 0.25, 0.34, 1.0, 0.23, 0.75  # inches
_NEAR, _FAR, _RIM = 0.04, 0.2, 0.03  # least and greatest margin and space at its rim, of the image's longer side
_MAGNIFIED = 320  # pixels: fewer are enlarged so far that they are to be seen as such
_CELLS = 48  # a grid of more is too fine


class _View(NamedTuple):
    """What the panels show, in pixels of the image, which reaches from (0, 0) to (width, height)."""

    left: float
    top: float
    right: float
    bottom: float
    rim: float

    def held(
        self, points: Float[np.ndarray, "*points 2"], reference: Float[np.ndarray, "2"]
    ) -> tuple[Float[np.ndarray, "*points 2"], Bool[np.ndarray, "*points"]]:
        """The points, those beyond brought back to the rim along their rays, and which ones these are."""
        rays = points - reference
        low, high = np.array([self.left, self.top]) + self.rim, np.array([self.right, self.bottom]) - self.rim
        room = np.where(rays < 0, reference - low, high - reference) / np.maximum(np.abs(rays), 1e-9)
        kept = np.minimum(room.min(-1), 1)
        return reference + rays * kept[..., None], kept < 1


def draw_sampling(sampled: SamplingPoints, path: Path, *, zoom: float = 1, dpi: int = 150) -> Path:
    """Writes the picture, one panel per level; the path's suffix says in which format. Gives the path.

    Points outside the image lie on a margin; those beyond it are triangles on its rim that point to them. `zoom` shows
    that part of it all around the reference.

    Raises:
        FieldError: the zoom is not 1 to 100, or the path is no .png, .pdf or .svg.
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

    if path.suffix not in (".png", ".pdf", ".svg"):
        raise FieldError(f"the picture is written as .png, .pdf or .svg; got {path.name!r}.")
    view, levels = _view(sampled, zoom), len(sampled.strides)
    columns = levels if levels <= 3 else -(-levels // 2)
    rows = -(-levels // columns)
    aspect = math.sqrt((view.bottom - view.top) / (view.right - view.left))
    side = _PANEL * (1.4 if levels == 1 else 1)
    across, down = side / aspect, side * aspect
    width = columns * (across + _GAP) + _GAP + _BAR
    lines = _heading(sampled, width - 2 * _GAP)
    head = _GAP + _LINE * (0.3 + sum(step for _, step, _ in lines))
    keys = _legend(sampled, view)
    keys_across = min(len(keys), int(width / 1.45))
    height = head + rows * (_TITLE + down + _GAP) + _FOOT + _LINE * (-(-len(keys) // keys_across) - 1)
    figure = Figure(figsize=(width, height), dpi=dpi)

    def panel(left: float, row: int, wide: float, high: float) -> Any:
        top = head + _TITLE + row * (_TITLE + down + _GAP)
        return figure.add_axes((left / width, 1 - (top + high) / height, wide / width, high / height))

    norm = Normalize(0, float(sampled.weights.max()))
    for level in range(levels):
        row, column = divmod(level, columns)
        _draw_level(panel(_GAP + column * (across + _GAP), row, across, down), sampled, level, view, norm)
    bar = panel(width - _BAR, 0, 0.18, rows * (_TITLE + down + _GAP) - _TITLE - _GAP)
    figure.colorbar(ScalarMappable(norm, COLORMAP), cax=bar).set_label(
        "attention weight of a point (and its size)", color=INK
    )
    _write(figure, lines)
    _write_foot(figure, sampled, keys, keys_across)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    return path


def _view(sampled: SamplingPoints, zoom: float) -> _View:
    """The image with a margin on each side that holds the points there, as far as there is room; a part with `zoom`."""
    if not 1 <= zoom <= 100:
        raise FieldError(f"zoom is 1 to 100; got {zoom}.")
    size = np.array(sampled.image.shape[1::-1])
    points, longer = sampled.points.reshape(-1, 2), size.max()
    near, far, rim = _NEAR * longer, _FAR * longer, _RIM * longer
    low = -np.clip(1.5 * rim - points.min(0), near, far)
    high = size + np.clip(1.5 * rim + points.max(0) - size, near, far)
    half = (high - low) / (2 * zoom)
    centre = np.clip(sampled.reference, low + half, high - half)
    return _View(*map(float, (*(centre - half), *(centre + half), rim / zoom)))


def _draw_level(axes: Any, sampled: SamplingPoints, level: int, view: _View, norm: Any) -> None:
    height, width = sampled.image.shape[:2]
    faded = 0.7 * (0.45 * sampled.image + 0.55 * sampled.image.mean(-1, keepdims=True))
    shown = max(view.right - view.left, view.bottom - view.top)
    pixels = "nearest" if shown < _MAGNIFIED else None
    axes.imshow(faded.astype(np.uint8), extent=(0, width, height, 0), interpolation=pixels, aspect="auto")
    axes.set(xlim=(view.left, view.right), ylim=(view.bottom, view.top), xticks=[], yticks=[], facecolor=PAGE)
    axes.spines[:].set_visible(False)
    rows, columns = sampled.tokens[level]
    if shown * max(columns / width, rows / height) <= _CELLS:
        grid = {"colors": "white", "linewidth": 0.5, "alpha": 0.25}
        axes.vlines(np.arange(1, columns) * width / columns, 0, height, **grid)
        axes.hlines(np.arange(1, rows) * height / rows, 0, width, **grid)
    _draw_query(axes, sampled)
    _draw_points(axes, sampled, level, view, norm)
    name, share = f"Level {level}, stride {sampled.strides[level]}", _percent(sampled.shares[level])
    axes.set_title(name, loc="left", fontsize=11, fontweight="bold", color=INK)
    axes.set_title(f"{share} of the weight", loc="right", fontsize=10.5, color=INK)


def _draw_query(axes: Any, sampled: SamplingPoints) -> None:
    """The reference, the box that is found or the token's cell, and its tag."""
    from matplotlib.patches import Rectangle

    for box, dashes in ((sampled.box, "-"), (sampled.reference_box, DASHES)):
        if box is not None:
            left, top, right, bottom = box
            style: dict[str, Any] = {"fill": False, "edgecolor": QUERY, "linewidth": 1.8, "linestyle": dashes}
            axes.add_patch(Rectangle((left, top), right - left, bottom - top, **style))
    for color, size, line in (("white", 15, 4.2), (QUERY, 14, 2.4)):
        axes.plot(*sampled.reference, marker="+", color=color, markersize=size, markeredgewidth=line, zorder=4)
    if sampled.score is not None and sampled.box is not None:
        corner = np.clip(sampled.box[:2], 0, sampled.image.shape[1::-1])
        tag = {"facecolor": QUERY, "edgecolor": "none", "pad": 2, "alpha": 0.85}
        text = f"{sampled.label} {sampled.score:.2f}"
        axes.text(*corner, text, va="bottom", fontsize=9, color=INK, bbox=tag, parse_math=False, clip_on=True)


def _draw_points(axes: Any, sampled: SamplingPoints, level: int, view: _View, norm: Any) -> None:
    """A ray from the reference to every point, the points with the largest weights on top, and the heads' numbers."""
    from matplotlib.collections import LineCollection
    from matplotlib.patheffects import withStroke

    points, weights = sampled.points[:, level], sampled.weights[:, level]
    shown, beyond = view.held(points, sampled.reference)
    rays = [(sampled.reference, place) for place in shown.reshape(-1, 2)]
    axes.add_collection(LineCollection(rays, colors="white", linewidths=0.7, alpha=0.45, zorder=2.5))
    style = {"cmap": COLORMAP, "norm": norm, "edgecolors": "white", "linewidths": 0.8, "zorder": 3}
    for index in sorted(np.ndindex(*weights.shape), key=lambda index: weights[index]):
        x, y = points[index] - sampled.reference
        marker: Any = _arrow(x, -y) if beyond[index] else "o"
        size = (24 + 70 * norm(weights[index])) * (2.5 if beyond[index] else 1)
        axes.scatter(*shown[index], c=[weights[index]], s=size, marker=marker, **style)
    if len(sampled.heads) == 1:
        return
    outline = [withStroke(linewidth=2, foreground=INK)]
    for row, head in enumerate(sampled.heads):
        furthest = np.linalg.norm(shown[row] - sampled.reference, axis=-1).argmax()
        place, outwards = shown[row, furthest], 1 if shown[row, furthest, 0] >= sampled.reference[0] else -1
        right = outwards * (-1 if beyond[row, furthest] else 1) > 0  # beside the panel there is no room
        style = {"fontsize": 8, "color": "white", "zorder": 5, "va": "center", "path_effects": outline}
        style |= {"textcoords": "offset points", "ha": "left" if right else "right"}
        axes.annotate(str(head), place, (6 if right else -6, 0), **style)


def _arrow(x: float, y: float) -> Float[np.ndarray, "4 2"]:
    """The outline of a slim triangle that points in a direction, y upwards."""
    along = np.array([x, y]) / math.hypot(x, y)
    across = np.array([-along[1], along[0]])
    return np.stack([along, 0.7 * across - along, -0.7 * across - along, along])


def _heading(sampled: SamplingPoints, inches: float) -> list[tuple[str, float, dict[str, Any]]]:
    """The lines above the panels: text, height in lines and style of each."""
    title = f"Where {sampled.query} looks"
    if sampled.score is not None:
        title += f" to find “{sampled.label}”, score {sampled.score:.2f}"
    last = "the last " if sampled.layer == sampled.layers - 1 else ""
    heads, _, points = sampled.weights.shape
    who = (
        f"{heads} heads sample {points} points each"
        if heads > 1
        else f"head {sampled.heads[0]} samples {points} points"
    )
    place = f"{sampled.part.capitalize()} layer {sampled.layer} ({last}of {sampled.layers})"
    details = f"{place}: {who} on every level. The weights of a head sum to 1."
    bold, pale = {"fontsize": 14, "fontweight": "bold", "color": INK}, {"fontsize": 10.5, "color": PALE}
    return [
        *((line, 1.45, bold) for line in textwrap.wrap(title, int(8.2 * inches))),
        *((line, 1.0, pale) for line in textwrap.wrap(details, int(11.8 * inches))),
    ]


def _write(figure: Any, lines: list[tuple[str, float, dict[str, Any]]]) -> None:
    width, height = figure.get_size_inches()
    top = _GAP
    for text, step, style in lines:
        figure.text(_GAP / width, 1 - top / height, text, va="top", parse_math=False, **style)
        top += step * _LINE


def _legend(sampled: SamplingPoints, view: _View) -> list[Any]:
    """What the marks in the panels mean."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    def mark(marker: str, label: str, **style: Any) -> Any:
        return Line2D([], [], linestyle="", marker=marker, label=label, **style)

    def frame(line: Any, label: str) -> Any:
        return Patch(fill=False, edgecolor=QUERY, linewidth=1.8, linestyle=line, label=label)

    dot = {"markerfacecolor": "#22a884", "markeredgecolor": PALE, "markersize": 8}
    keys = [mark("+", "reference point", color=QUERY, markersize=11, markeredgewidth=2.4)]
    keys += [frame("-", "cell of its token" if sampled.score is None else "box it finds")]
    keys += [] if sampled.reference_box is None else [frame(DASHES, "reference box")]
    keys += [mark("o", "sampled point", **dot)]
    keys += [mark("^", "point further out", **dot)] if view.held(sampled.points, sampled.reference)[1].any() else []
    return keys + ([mark("$3$", "head", color=INK, markersize=7)] if len(sampled.heads) > 1 else [])


def _write_foot(figure: Any, sampled: SamplingPoints, keys: list[Any], columns: int) -> None:
    """The legend, and how many points lie outside the image."""
    width, height = figure.get_size_inches()
    style = {"frameon": False, "fontsize": 9.5, "borderpad": 0, "borderaxespad": 0, "handletextpad": 0.5}
    place = {"loc": "lower left", "bbox_to_anchor": (_GAP / width, 0.5 / height), "ncols": columns}
    figure.legend(handles=keys, handlelength=1.6, columnspacing=1.5, **place, **style)
    outside = sampled.outside
    share = _percent(float(sampled.weights[outside].sum()) / len(sampled.heads))
    text = f"All {outside.size} points lie on the image."
    if outside.any():
        count = f"{outside.sum()} of {outside.size} points, with {share} of the weight,"
        text = f"{count} lie outside the image, where the feature maps are zero."
    figure.text(_GAP / width, 0.2 / height, text, fontsize=9.5, color=PALE)


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.1 or share == 0 else f"{100 * share:.1g} %"
