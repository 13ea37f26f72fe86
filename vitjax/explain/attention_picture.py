"""The picture of what a query or a pixel attends to: a heat map over the image, and one for every head below it."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.colors import Normalize

from vitjax.explain import picture
from vitjax.explain.attention_maps import AttentionMap

_NAMED = 0.34  # inches: room for the titles of panels, where there are two
_PANEL, _TITLE, _FOOT = 5.6, 0.023, 0.72  # inches: side of a square panel; others have its area
_HEAD, _APART, _ABOVE = 1.2, 0.2, 0.28  # inches: least width of a head's panel, space between them and above


def draw_attention(found: AttentionMap, path: Path, *, dpi: int = 150) -> Path:
    """Writes the picture: the mean of the heads, and below it each head alone; the path's suffix says in which format.

    Of a model with masks what the query covers stands beside the mean. Every small panel has a scale of its own, from 0
    to the weight that is written above it. Gives the path.

    Raises:
        FieldError: the path is no .png, .pdf or .svg.
    """
    question, grid = found.question, found.grid
    across, down = picture.panel_size(grid.image, _PANEL)
    title, columns = (_TITLE, 1) if question.mask is None else (_NAMED, 2)
    heads = _heads(len(found.heads), columns * (across + picture.GAP) - picture.GAP, across, down)
    below = max((top + high for _, top, _, high in heads), default=down) - down
    about: dict[str, Any] = {"columns": columns, "title": title, "foot": below + _FOOT, "dpi": dpi}
    sheet = picture.Sheet(path, _heading(found), (across, down), **about)
    axes = sheet.panel(0)
    norm = Normalize(0, float(found.mean.max()))
    picture.draw_heat(axes, grid, found.mean, norm)
    picture.draw_cells(axes, grid)
    picture.draw_asked(axes, question, grid.image, tagged=True)
    if question.mask is not None:
        picture.title_panel(axes, "Attention", picture.of_heads(found.heads))
        picture.draw_mask(sheet.panel(1), question.mask, question, grid.image)
    sheet.bar(norm, "attention weight of a cell", nearer=0.1)
    for head, weights, (left, top, wide, high) in zip(found.heads, found.weights, heads, strict=False):
        one, most = sheet.axes(left, title + top, wide, high), float(weights.max())
        picture.draw_heat(one, grid, weights, Normalize(0, most))
        picture.draw_asked(one, question, grid.image, line=1.0)
        one.set_title(f"Head {head}", loc="left", fontsize=9, fontweight="bold", color=picture.INK, pad=3)
        one.set_title(f"to {most:.2g}", loc="right", fontsize=8.5, color=picture.PALE, pad=3)
    box = "box it finds" if question.pixel is None else "cell of its token"
    sheet.foot(picture.asked_keys(question, grid.image, box), _summary(found))
    return sheet.saved()


def _heads(heads: int, room: float, across: float, down: float) -> list[tuple[float, float, float, float]]:
    """Left, top, width and height in inches of each head's panel in a room so wide, below a panel of that size."""
    if heads == 1:
        return []
    columns = picture.even_columns(heads, min(heads, max(1, int((room + _APART) / (_HEAD + _APART)))))
    wide = (room + _APART) / columns - _APART
    high = wide * down / across
    places = (divmod(index, columns) for index in range(heads))
    top, rows = down + picture.GAP + _ABOVE, _ABOVE + high + _APART / 2
    return [(picture.GAP + column * (wide + _APART), top + row * rows, wide, high) for row, column in places]


def _heading(found: AttentionMap) -> tuple[str, str]:
    question, (rows, columns) = found.question, found.grid.tokens
    sought = "" if question.score is None else f" for “{question.label}”, score {question.score:.2f}"
    details = f"{question.place.capitalize()}, {picture.of_heads(found.heads)}, over {rows} x {columns} cells."
    return f"What {question.query} attends to{sought}", details


def _summary(found: AttentionMap) -> str:
    """How far the weight is spread, and what part of it lies in the box."""
    ranked = np.sort(found.mean, axis=None)[::-1].cumsum()
    half = int(np.searchsorted(ranked, 0.5 * ranked[-1])) + 1
    where, share = "box" if found.question.pixel is None else "pixel's own cell", picture.percent(found.in_box)
    text = f"Half of the weight lies on {half} of {ranked.size} cells; the {where} has {share} of it."
    padding = found.on_padding
    return text + (f" {picture.percent(padding)} lies on padding." if padding > 1e-4 else "")
