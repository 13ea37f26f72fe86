"""Heat maps and groups are drawn: the right colour at the right place, any class name, and formats that there are."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitjax.explain.attention_maps import AttentionMap
from vitjax.explain.attention_picture import draw_attention
from vitjax.explain.group_maps import GroupMap
from vitjax.explain.group_picture import draw_groups
from vitjax.explain.question import Question
from vitjax.explain.seen_image import SeenImage

YELLOW = (253, 231, 37)  # the greatest weight
GREY = SeenImage(np.zeros((40, 40, 3), np.uint8), (40, 40), np.array([0.0, 0.0, 40.0, 40.0]), (40, 40))


def one_cell(cell, *, heads=1, image=GREY, **fields):
    """All weight on one of 5 x 5 cells of 8 pixels, for a query with a box at the lower left."""
    weights = np.zeros((heads, 5, 5), np.float32)
    weights[:, *cell] = 1
    asked = {"query": "query 3", "part": "decoder", "layer": 0, "layers": 2, "label": "a", "score": 0.5, **fields}
    question = Question(box=np.array([1.0, 30.0, 9.0, 39.0]), **asked)
    return AttentionMap(question, image.grid((5, 5), 8), tuple(range(heads)), weights)


def grouped(cell, *, interval=2, **fields):
    members = np.zeros((5, 5), bool)
    members[::2, ::2] = True
    return GroupMap(one_cell(cell, pixel=(4, 36), part="stage 1", **fields), members, interval)


def middle(path, color, left):
    """The middle (x, y), in inches from the left end of a panel, of all that has a colour there."""
    picture = np.array(Image.open(path).convert("RGB"))[:, int(left * 100) :][:, :470].astype(int)
    rows, columns = np.nonzero(np.abs(picture - color).max(-1) < 40)
    return columns.mean() / 100, rows.mean() / 100


@pytest.mark.parametrize("cell", [(1, 3), (2, 1)], ids=str)
def test_the_heat_is_greatest_in_the_middle_of_the_cell_with_the_weight(tmp_path, cell):
    path = draw_attention(one_cell(cell), tmp_path / "one.png", dpi=100)
    x, y = middle(path, YELLOW, 0.25)
    top = 0.25 + 0.23 * (0.4 + 1.45 + 1.0)  # inches: what stands above the panel
    np.testing.assert_allclose([x, y - top], [(cell[1] + 0.5) * 5.6 / 5, (cell[0] + 0.5) * 5.6 / 5], atol=0.03)


def test_cells_that_reach_beyond_the_image_do_not_shift_the_others(tmp_path):
    seen = dataclasses.replace(GREY, size=(36, 36))
    path = draw_attention(one_cell((1, 3), image=seen), tmp_path / "one.png", dpi=100)
    assert middle(path, YELLOW, 0.25)[0] == pytest.approx(3.5 * 8 / 36 * 5.6, abs=0.03)


def test_every_head_has_a_panel_below(tmp_path):
    heights = {}
    for heads in (1, 4, 8):
        path = draw_attention(one_cell((1, 1), heads=heads), tmp_path / "heads.png", dpi=20)
        heights[heads] = Image.open(path).height / 20
    row = 0.28 + (5.6 + 0.2) / 4 - 0.2  # inches: a title and a panel
    assert heights[4] - heights[1] == pytest.approx(0.25 + row, abs=0.11)
    assert heights[8] - heights[4] == pytest.approx(row + 0.1, abs=0.11)


def test_a_member_of_a_group_is_drawn_at_its_place_in_the_colour_of_its_weight(tmp_path):
    short, far = grouped((0, 2), interval=1), grouped((2, 4))
    path = draw_groups([short, far], tmp_path / "groups.png", dpi=100)
    faded = tuple(round(0.8 * part) for part in YELLOW)  # over black
    top = 0.25 + 0.23 * (0.3 + 1.45 + 1.0) + 0.34
    for left, cell in ((0.25, (0, 2)), (0.25 + 4.6 + 0.25, (2, 4))):
        x, y = middle(path, faded, left)
        np.testing.assert_allclose([x, y - top], [(cell[1] + 0.5) * 0.92, (cell[0] + 0.5) * 0.92], atol=0.03)


@pytest.mark.parametrize("label", ["$5 and $", "a name " * 40, ""], ids=["dollars", "long", "none"])
def test_any_class_name_can_be_written(tmp_path, label):
    assert draw_attention(one_cell((0, 0), label=label), tmp_path / "name.pdf", dpi=30).stat().st_size > 0
    assert draw_groups([grouped((0, 0), label=label)], tmp_path / "new" / "name.svg", dpi=30).stat().st_size > 0


def test_a_format_that_there_is_not_is_told():
    with pytest.raises(ValueError, match=r"written as \.png, \.pdf or \.svg; got 'a\.tiff2'"):
        draw_attention(one_cell((0, 0)), Path("a.tiff2"))
    with pytest.raises(ValueError, match=r"got 'a\.gif'"):
        draw_groups([grouped((0, 0))], Path("a.gif"))
    with pytest.raises(ValueError, match="one or more of them; got none"):
        draw_groups([], Path("a.png"))
