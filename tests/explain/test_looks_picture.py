"""What modules do is drawn: each kind from arrays made by hand, the right colour at the right place of its panel."""

import numpy as np
import pytest
from PIL import Image

from vitjax.explain.looks import Looks
from vitjax.explain.looks_picture import draw_looks
from vitjax.explain.seen_image import SeenImage

YELLOW, PURPLE = (253, 231, 37), (68, 1, 84)  # the greatest and the least value
PINK, GREEN = (255, 77, 125), (34, 168, 132)  # what was asked or is read, and bars
BLUE, ORANGE = (56, 189, 248), (251, 146, 60)  # below 0 and above it
LEFT, TOP, PANEL = 0.25, 0.25 + 0.23 * (0.3 + 1.45 + 1.0) + 0.52, 3.6  # inches: margin, heading and title, panel


def drawn_panel(name, values, path, *, side=32, pixel=(9, 25), **fields):
    """The one panel of a picture as colours [360 360 3], for a black image that the model sees whole."""
    extent = np.array([0.0, 0.0, side, side])
    image = SeenImage(np.zeros((side, side, 3), np.uint8), (side, side), extent, (side, side))
    found = Looks(image, (side, side), {("backbone", "stage_1", "attention", name): tuple(values)}, **fields)
    draw_looks(found, pixel, path, dpi=100)
    left, top, right, bottom = (round(100 * inches) for inches in (LEFT, TOP, LEFT + PANEL, TOP + PANEL))
    return np.array(Image.open(path).convert("RGB"))[top:bottom, left:right].astype(int)


def near(panel, color, within=40):
    return np.abs(panel - color).max(-1) < within


def middle(panel, color, within=40):
    """The middle (x, y) of all that has a colour, as shares of the panel."""
    rows, columns = np.nonzero(near(panel, color, within))
    return (columns.mean() + 0.5) / panel.shape[1], (rows.mean() + 0.5) / panel.shape[0]


def rim(panel, color):
    """Left, top, right and bottom of all that has a colour, as shares of the panel."""
    rows, columns = np.nonzero(near(panel, color))
    ends = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
    return np.array(ends) / len(panel)


def test_attention_is_greatest_in_its_cell_and_the_cell_that_was_asked_has_a_frame(tmp_path):
    weights = np.zeros((16, 16), np.float32)
    weights[3 * 4 + 1, 1 * 4 + 2] = 1  # row 3 and column 1, which has pixel (9, 25), looks at row 1 and column 2
    panel = drawn_panel("attention", [weights], tmp_path / "new" / "heat.png")
    np.testing.assert_allclose(middle(panel, YELLOW), [2.5 / 4, 1.5 / 4], atol=0.01)
    np.testing.assert_allclose(rim(panel, PINK), [1 / 4, 3 / 4, 2 / 4, 1], atol=0.02)


def test_pooled_keys_are_drawn_where_they_lie_on_an_odd_map(tmp_path):
    weights = np.zeros((81, 16), np.float32)  # 9 x 9 cells of 8 pixels, keys of 16, which leave out the last cells
    weights[:, 1 * 4 + 2] = 1
    panel = drawn_panel("attention", [weights], tmp_path / "pooled.png", side=72)
    np.testing.assert_allclose(middle(panel, YELLOW), [40 / 72, 24 / 72], atol=0.01)
    assert not panel[-38:, -38:].any()  # nobody looks there


def test_weights_below_zero_have_a_colour_of_their_own(tmp_path):
    weights = np.zeros((16, 16), np.float32)
    weights[:, 1 * 4 + 2], weights[:, 2 * 4 + 1] = -2, 2
    panel = drawn_panel("attention", [weights], tmp_path / "signed.png")
    np.testing.assert_allclose(middle(panel, BLUE), [2.5 / 4, 1.5 / 4], atol=0.01)
    np.testing.assert_allclose(middle(panel, ORANGE), [1.5 / 4, 2.5 / 4], atol=0.01)


def test_criss_cross_passes_are_drawn_as_what_they_gather(tmp_path):
    first, second = np.zeros((2, 4, 4, 8), np.float32)
    second[3, 1, 4 + 2] = 1  # from (3, 1) along the row to (3, 2)
    first[3, 2, 1] = 1  # and from there along the column to (1, 2)
    panel = drawn_panel("attention", [first, second], tmp_path / "crossed.png")
    np.testing.assert_allclose(middle(panel, YELLOW), [2.5 / 4, 1.5 / 4], atol=0.01)


def test_a_mask_is_drawn_from_its_least_to_its_greatest_value_without_a_frame(tmp_path):
    mask = np.full((4, 4, 2), 0.6, np.float32)
    mask[2, 1], mask[0, 3] = 0.9, 0.5
    panel = drawn_panel("mask", [mask], tmp_path / "mask.png")
    np.testing.assert_allclose(middle(panel, YELLOW), [1.5 / 4, 2.5 / 4], atol=0.01)
    assert panel[45, 315].sum() < panel[45, 45].sum()
    assert not near(panel, PINK).any()


def test_pairs_of_channels_are_drawn_row_by_row(tmp_path):
    pairs = np.zeros((4, 4), np.float32)
    pairs[1, 3] = 1
    panel = drawn_panel("channel_attention", [pairs], tmp_path / "pairs.png")
    np.testing.assert_allclose(rim(panel, YELLOW), [3 / 4, 1 / 4, 1, 2 / 4], atol=0.01)
    assert near(panel, PURPLE, 10).mean() == pytest.approx(15 / 16, abs=0.01)


def test_an_outline_is_drawn_where_it_lies(tmp_path):
    outline = np.array([[0.25, 0.5], [0.75, 0.5], [0.75, 0.875], [0.25, 0.875]])
    panel = drawn_panel("outline", [outline], tmp_path / "outline.png")
    np.testing.assert_allclose(rim(panel, PINK), [0.25, 0.5, 0.75, 0.875], atol=0.015)


def test_glimpses_have_frames_of_their_size_in_colours_of_their_order(tmp_path):
    places = np.array([[0.25, 0.25], [0.75, 0.5]])
    panel = drawn_panel("locations", [places], tmp_path / "glimpses.png", glimpse_size=8)
    early, late = (126, 3, 168), (251, 210, 36)
    np.testing.assert_allclose(rim(panel, early), [0.125, 0.125, 0.375, 0.375], atol=0.02)
    np.testing.assert_allclose(rim(panel, late), [0.625, 0.375, 0.875, 0.625], atol=0.02)


def test_gates_are_bars_from_the_largest_to_the_smallest(tmp_path):
    panel = drawn_panel("gate", [np.array([0.2, 0.9, 0.4, 0.6], np.float32)], tmp_path / "gates.png")
    heights = [near(panel[:, column], GREEN).mean() for column in (65, 135, 225, 315)]
    np.testing.assert_allclose(heights, [0.9, 0.6, 0.4, 0.2], atol=0.02)
