"""The picture of where a query samples: the image once per level, with the points coloured by attention weight."""

import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from matplotlib.patheffects import withStroke

from vitjax.errors import FieldError
from vitjax.explain import picture
from vitjax.explain.sampling_points import SamplingPoints

_DASHES = (0, (2, 2))
_PAGE = "#b4bcc7"  # around the image
_PANEL, _TITLE, _FOOT = 4.2, 0.34, 0.75  # inches: side of a square panel; others have the same area
_NEAR, _FAR, _RIM = 0.04, 0.2, 0.03  # least and greatest margin and space at its rim, of the image's longer side


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
    """Writes the picture, one panel per level and one of the mask where there is one; gives the path.

    The path's suffix says in which format.

    Points outside the image lie on a margin; those beyond it are triangles on its rim that point to them. `zoom` shows
    that part of it all around the reference.

    Raises:
        FieldError: the zoom is not 1 to 100, or the path is no .png, .pdf or .svg.
    """
    view, levels = _view(sampled, zoom), len(sampled.grids)
    panels = levels + (sampled.question.mask is not None)
    columns = panels if panels <= 3 else -(-panels // 2)
    aspect = math.sqrt((view.bottom - view.top) / (view.right - view.left))
    side = _PANEL * (1.4 if levels == 1 else 1)
    keys = _keys(sampled, view)
    keys_across = min(len(keys), int((columns * (side / aspect + picture.GAP) + picture.GAP + 1) / 1.45))
    foot = _FOOT + picture.LINE * (-(-len(keys) // keys_across) - 1)
    size, rows = (side / aspect, side * aspect), -(-panels // columns)
    sheet = picture.Sheet(path, _heading(sampled), size, rows=rows, columns=columns, title=_TITLE, foot=foot, dpi=dpi)
    norm = Normalize(0, float(sampled.weights.max()))
    for level in range(levels):
        _draw_level(sheet.panel(level), sampled, level, view, norm)
    if sampled.question.mask is not None:
        axes = sheet.panel(levels)
        picture.draw_mask(axes, sampled.question.mask, sampled.question, sampled.image)
        axes.set(xlim=(view.left, view.right), ylim=(view.bottom, view.top), facecolor=_PAGE)
    sheet.bar(norm, "attention weight of a point (and its size)")
    sheet.foot(keys, _summary(sampled), columns=keys_across, low=(0.5, 0.2))
    return sheet.saved()


def _view(sampled: SamplingPoints, zoom: float) -> _View:
    """The image with a margin on each side that holds the points there, as far as there is room; a part with `zoom`."""
    if not 1 <= zoom <= 100:
        raise FieldError(f"zoom is 1 to 100; got {zoom}.")
    size = np.array(sampled.image.original[::-1])
    points, longer = sampled.points.reshape(-1, 2), size.max()
    near, far, rim = _NEAR * longer, _FAR * longer, _RIM * longer
    low = -np.clip(1.5 * rim - points.min(0), near, far)
    high = size + np.clip(1.5 * rim + points.max(0) - size, near, far)
    half = (high - low) / (2 * zoom)
    centre = np.clip(sampled.reference, low + half, high - half)
    return _View(*map(float, (*(centre - half), *(centre + half), rim / zoom)))


def _draw_level(axes: Axes, sampled: SamplingPoints, level: int, view: _View, norm: Normalize) -> None:
    question, grid = sampled.question, sampled.grids[level]
    shown = max(view.right - view.left, view.bottom - view.top)
    picture.draw_image(axes, grid.image, colors=0.45, shown=shown)
    axes.set(xlim=(view.left, view.right), ylim=(view.bottom, view.top), facecolor=_PAGE)
    picture.draw_cells(axes, grid, seen=shown / grid.cell.min())
    picture.draw_frame(axes, question.box)
    if sampled.reference_box is not None:
        picture.draw_frame(axes, sampled.reference_box, dashes=_DASHES)
    if sampled.origin is not None and sampled.origin.level == level:
        picture.draw_frame(axes, sampled.origin.cell, color=picture.GREEN)
    picture.draw_cross(axes, sampled.reference, size=14, line=2.4, rim=4.2, zorder=4)
    if question.score is not None:
        picture.draw_tag(axes, question, grid.image, alpha=0.85, zorder=3)
    _draw_points(axes, sampled, level, view, norm)
    share = picture.percent(sampled.shares[level])
    picture.title_panel(axes, f"Level {level}, stride {grid.stride}", f"{share} of the weight")


def _draw_points(axes: Axes, sampled: SamplingPoints, level: int, view: _View, norm: Normalize) -> None:
    """A ray from the reference to every point, the points with the largest weights on top, and the heads' numbers."""
    points, weights = sampled.points[:, level], sampled.weights[:, level]
    shown, beyond = view.held(points, sampled.reference)
    rays = [(sampled.reference, place) for place in shown.reshape(-1, 2)]
    axes.add_collection(LineCollection(rays, colors="white", linewidths=0.7, alpha=0.45, zorder=2.5))
    style: dict[str, Any] = {"cmap": picture.COLORMAP, "norm": norm, "edgecolors": "white"}
    style |= {"linewidths": 0.8, "zorder": 3}
    for index in sorted(np.ndindex(*weights.shape), key=lambda index: weights[index]):
        x, y = points[index] - sampled.reference
        marker: Any = _arrow(x, -y) if beyond[index] else "o"
        size = (24 + 70 * norm(weights[index])) * (2.5 if beyond[index] else 1)
        axes.scatter(shown[index][0], shown[index][1], c=[weights[index]], s=size, marker=marker, **style)
    if len(sampled.heads) == 1:
        return
    outline = [withStroke(linewidth=2, foreground=picture.INK)]
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


def _heading(sampled: SamplingPoints) -> tuple[str, str]:
    question, (heads, _, points) = sampled.question, sampled.weights.shape
    title = f"Where {question.query} looks"
    if question.score is not None:
        title += f" to find “{question.label}”, score {question.score:.2f}"
    who = f"{heads} heads sample {points} points each"
    who = who if heads > 1 else f"head {sampled.heads[0]} samples {points} points"
    return title, f"{question.place.capitalize()}: {who} on every level. The weights of a head sum to 1."


def _keys(sampled: SamplingPoints, view: _View) -> list[Artist]:
    """What the marks in the panels mean."""
    dot: dict[str, Any] = {"markerfacecolor": picture.GREEN, "markeredgecolor": picture.PALE, "markersize": 8}
    keys: list[Artist] = [picture.cross_key("reference point")]
    keys += [picture.frame_key("cell of its token" if sampled.question.score is None else "box it finds")]
    keys += [] if sampled.reference_box is None else [picture.frame_key("reference box", _DASHES)]
    if sampled.origin is not None:
        keys += [picture.frame_key("cell that proposed it", color=picture.GREEN)]
    keys += [picture.mark_key("o", "sampled point", **dot)]
    beyond = view.held(sampled.points, sampled.reference)[1]
    keys += [picture.mark_key("^", "point further out", **dot)] if beyond.any() else []
    return keys + ([picture.mark_key("$3$", "head", color=picture.INK, markersize=7)] if len(sampled.heads) > 1 else [])


def _summary(sampled: SamplingPoints) -> str:
    """How many points lie outside the image."""
    outside = sampled.outside
    if not outside.any():
        return f"All {outside.size} points lie on the image."
    share = picture.percent(float(sampled.weights[outside].sum()) / len(sampled.heads))
    count = f"{outside.sum()} of {outside.size} points, with {share} of the weight,"
    return f"{count} lie outside the image, where the feature maps are zero."
