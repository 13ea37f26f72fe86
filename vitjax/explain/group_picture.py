"""The picture of a CrossFormer's groups: the tokens that a pixel's token attends to, coloured by attention weight."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vitjax.errors import FieldError
from vitjax.explain.attention_picture import (
    GAP,
    LINE,
    draw_asked,
    draw_grid,
    draw_image,
    heading,
    panel_size,
    percent,
    pixel_keys,
    place,
    require_format,
    saved,
    write_foot,
    write_lines,
)
from vitjax.explain.group_maps import GroupMap
from vitjax.explain.sampling_picture import COLORMAP, INK

_PANEL, _TITLE, _BAR, _FOOT = 4.6, 0.34, 1.0, 0.72  # inches: side of a square panel; others have its area


def draw_groups(found: Sequence[GroupMap], path: Path, *, dpi: int = 150) -> Path:
    """Writes the picture, one panel for each of a pixel's groups; the path's suffix says in which format.

    Raises:
        FieldError: there are no groups, or the path is no .png, .pdf or .svg.
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

    require_format(path)
    if not found:
        raise FieldError("a picture of groups needs one or more of them; got none.")
    across, down = panel_size(found[0].image, _PANEL)
    width = GAP + len(found) * (across + GAP) + _BAR
    lines = _heading(found, width - 2 * GAP)
    top = GAP + LINE * (0.3 + sum(step for _, step, _ in lines)) + _TITLE
    figure = Figure(figsize=(width, top + down + GAP + _FOOT), dpi=dpi)
    norm = Normalize(0, max(float(one.mean.max()) for one in found))
    for index, one in enumerate(found):
        _draw_group(place(figure, GAP + index * (across + GAP), top, across, down), one, norm)
    bar = place(figure, width - _BAR, top, 0.18, down)
    figure.colorbar(ScalarMappable(norm, COLORMAP), cax=bar).set_label("attention weight of a token", color=INK)
    write_lines(figure, lines)
    write_foot(figure, [*pixel_keys(found[0], "its token"), _member_key()], _summary(found))
    return saved(figure, path)


def _draw_group(axes: Any, found: GroupMap, norm: Any) -> None:
    from matplotlib import colormaps
    from matplotlib.collections import PatchCollection
    from matplotlib.patches import Rectangle

    draw_image(axes, found.image)
    draw_grid(axes, found)
    frames = [
        Rectangle((left, top), right - left, bottom - top) for left, top, right, bottom in found.cells[found.members]
    ]
    colors = colormaps[COLORMAP](norm(found.mean[found.members]))
    line = min(0.8, 20 / max(found.mean.shape))  # points: thinner where tokens are small
    style: dict[str, Any] = {"edgecolors": "white", "linewidths": line, "alpha": 0.8, "zorder": 3}
    axes.add_collection(PatchCollection(frames, facecolors=colors, **style))
    draw_asked(axes, found, tagged=True)
    kind = "short distance" if found.interval == 1 else "long distance"
    axes.set_title(f"Block {found.layer}, {kind}", loc="left", fontsize=11, fontweight="bold", color=INK)
    axes.set_title(found.spread, loc="right", fontsize=10.5, color=INK)


def _heading(found: Sequence[GroupMap], inches: float) -> list[tuple[str, float, dict[str, Any]]]:
    first = found[0]
    title = f"What {first.query} attends to"
    heads = f"mean of {len(first.heads)} heads" if len(first.heads) > 1 else f"head {first.heads[0]}"
    rows, columns = first.mean.shape
    details = f"{first.part}, {rows} x {columns} tokens at stride {first.stride}, {heads}"
    if first.score is None:
        return heading(title, f"{details.capitalize()}.", inches)
    return heading(f"Predicted: “{first.label}”, probability {first.score:.2f}", f"{title} in {details}.", inches)


def _member_key() -> Any:
    from matplotlib.patches import Patch

    return Patch(facecolor="#22a884", edgecolor="white", label="token of its group")


def _summary(found: Sequence[GroupMap]) -> str:
    told = []
    for one in found:
        padding = f", {percent(one.on_padding)} on padding" if one.on_padding > 1e-4 else ""
        told.append(f"block {one.layer}: {percent(one.in_box)} of the weight on the token itself{padding}")
    text = "; ".join(told)
    return f"{text[0].upper()}{text[1:]}."
