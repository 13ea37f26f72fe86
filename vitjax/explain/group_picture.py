"""The picture of a CrossFormer's groups: the tokens that a pixel's token attends to, coloured by attention weight."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.colors import Normalize
from matplotlib.patches import Patch, Rectangle

from vitjax.errors import FieldError
from vitjax.explain import picture
from vitjax.explain.attention_maps import AttentionMap
from vitjax.explain.group_maps import GroupMap

_PANEL, _TITLE, _FOOT = 4.6, 0.34, 0.72  # inches: side of a square panel; others have its area


def draw_groups(found: Sequence[GroupMap], path: Path, *, dpi: int = 150) -> Path:
    """Writes the picture, one panel for each of a pixel's groups; the path's suffix says in which format.

    Raises:
        FieldError: there are no groups, or the path is no .png, .pdf or .svg.
    """
    if not found:
        raise FieldError("a picture of groups needs one or more of them; got none.")
    first = found[0].attention
    size = picture.panel_size(first.grid.image, _PANEL)
    sheet = picture.Sheet(path, _heading(first), size, columns=len(found), title=_TITLE, foot=_FOOT, dpi=dpi)
    norm = Normalize(0, max(float(one.attention.mean.max()) for one in found))
    for index, one in enumerate(found):
        _draw_group(sheet.panel(index), one, norm)
    sheet.bar(norm, "attention weight of a token")
    member = Patch(facecolor=picture.GREEN, edgecolor="white", label="token of its group")
    sheet.foot([*picture.asked_keys(first.question, first.grid.image, "its token"), member], _summary(found))
    return sheet.saved()


def _draw_group(axes: Axes, found: GroupMap, norm: Normalize) -> None:
    attention, grid = found.attention, found.attention.grid
    picture.draw_image(axes, grid.image)
    picture.draw_cells(axes, grid)
    members = grid.cells[found.members]
    frames = [Rectangle((left, top), right - left, bottom - top) for left, top, right, bottom in members]
    colors = picture.COLORMAP(norm(attention.mean[found.members]))
    line = min(0.8, 20 / max(grid.tokens))  # points: thinner where tokens are small
    tokens = PatchCollection(frames, facecolors=colors, edgecolors="white", linewidths=line, alpha=0.8, zorder=3)
    axes.add_collection(tokens)
    picture.draw_asked(axes, attention.question, grid.image, tagged=True)
    kind = "short distance" if found.interval == 1 else "long distance"
    picture.title_panel(axes, f"Block {attention.question.layer}, {kind}", found.spread)


def _heading(found: AttentionMap) -> tuple[str, str]:
    question, (rows, columns) = found.question, found.grid.tokens
    title, heads = f"What {question.query} attends to", picture.of_heads(found.heads)
    details = f"{question.part}, {rows} x {columns} tokens at stride {found.grid.stride}, {heads}"
    if question.score is None:
        return title, f"{details.capitalize()}."
    return f"Predicted: “{question.label}”, probability {question.score:.2f}", f"{title} in {details}."


def _summary(found: Sequence[GroupMap]) -> str:
    told = []
    for one in (group.attention for group in found):
        padding = f", {picture.percent(one.on_padding)} on padding" if one.on_padding > 1e-4 else ""
        share = picture.percent(one.in_box)
        told.append(f"block {one.question.layer}: {share} of the weight on the token itself{padding}")
    text = "; ".join(told)
    return f"{text[0].upper()}{text[1:]}."
