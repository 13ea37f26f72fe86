"""Where the cells of a feature map lie: which of them is a pixel's, which lie on padding, and what is refused."""

import numpy as np
import pytest

from vitjax.explain.seen_image import Grid, SeenImage

SQUARE = SeenImage(np.zeros((8, 8, 3), np.uint8), (20, 40), np.array([10.0, 0.0, 30.0, 20.0]), (10, 10))


@pytest.fixture
def grid():
    return SQUARE.grid((4, 4), 4)  # of 4 x 4 cells of 8 pixels of the original 3 x 3 lie on the image


def test_cells_lie_at_their_stride_and_the_last_may_reach_beyond_the_image(grid):
    assert grid.tokens == (3, 3)
    np.testing.assert_allclose(grid.cells[0, 0], [10, 0, 18, 8])
    np.testing.assert_allclose(grid.cells[2, 1], [18, 16, 26, 24])


def test_every_pixel_that_is_seen_lies_in_its_cell_and_tokens_are_counted_with_padding(grid):
    for x, y in np.ndindex(40, 20):
        if 10 <= x < 30:
            left, top, right, bottom = grid.box(x, y)
            assert left <= x + 0.5 < right and top <= y + 0.5 < bottom
    assert grid.place(27, 9) == (1, 2) and grid.token(27, 9) == 1 * 4 + 2


def test_a_pixel_without_a_cell_of_its_own_has_the_last(grid):
    assert SQUARE.grid((2, 2), 4).place(29, 19) == (1, 1)


def test_cells_can_be_stretched_to_cover_the_image():
    stretched = Grid(SQUARE, (4, 4), (3, 3), 4, np.array([20, 20]) / 3)
    np.testing.assert_allclose(stretched.cells[2, 2, 2:], [30, 20])
    assert stretched.place(24, 12) == (1, 2)


def test_values_of_tokens_become_a_map_without_padding(grid):
    np.testing.assert_array_equal(grid.on_image(np.arange(32).reshape(2, 16))[1, 2], [24, 25, 26])


@pytest.mark.parametrize(
    ("pixel", "words"),
    [((40, 3), "x from 0 to 39 and y from 0 to 19; got 40 3"), ((9, 0), "x from 10 to 29 and y from 0 to 19; got 9 0")],
    ids=["outside the image", "outside the square"],
)
def test_a_pixel_that_is_not_seen_is_refused(grid, pixel, words):
    for ask in (SQUARE.require, grid.place, grid.token, grid.box):
        with pytest.raises(ValueError, match=words):
            ask(*pixel)
