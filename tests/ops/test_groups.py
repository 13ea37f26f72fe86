import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitjax.ops.groups import (
    Grid,
    Grouping,
    from_long_distance_groups,
    from_short_distance_groups,
    long_distance_groups,
    short_distance_groups,
)

QUICK = settings(max_examples=15, deadline=None)
SMALL = st.integers(1, 4)


def places(height, width):
    """A map whose two channels are the row and the column of each token."""
    return np.moveaxis(np.indices((height, width), np.float32), 0, -1)[None]


def sets(groups):
    """The tokens of every group of the first image, as sets of (row, column)."""
    return [frozenset((int(row), int(column)) for row, column in group) for group in np.asarray(groups)[0]]


def test_a_short_distance_group_is_a_window():
    groups = sets(short_distance_groups(places(4, 6), (2, 3)))
    assert groups == [
        frozenset((2 * i + a, 3 * j + b) for a in range(2) for b in range(3)) for i in range(2) for j in range(2)
    ]


def test_a_long_distance_group_of_the_papers_figure_is_every_third_token():
    groups = sets(long_distance_groups(places(9, 9), (3, 3), 3))
    assert groups == [
        frozenset((i + 3 * a, j + 3 * b) for a in range(3) for b in range(3)) for i in range(3) for j in range(3)
    ]


def test_a_map_larger_than_group_times_interval_is_cut_into_regions():
    groups = sets(long_distance_groups(places(8, 4), (2, 2), 2))
    assert groups[0] == {(0, 0), (0, 2), (2, 0), (2, 2)}
    assert groups[4] == {(4, 0), (4, 2), (6, 0), (6, 2)}
    assert len(groups) == 8


@given(SMALL, SMALL, SMALL, SMALL)
@QUICK
def test_windows_joined_again_are_the_map(rows, columns, i, j):
    x = np.arange(2 * rows * i * columns * j * 3, dtype=np.float32).reshape(2, rows * i, columns * j, 3)
    groups = short_distance_groups(x, (i, j))
    np.testing.assert_array_equal(from_short_distance_groups(groups, (i, j), *x.shape[1:3]), x)


@given(SMALL, SMALL, SMALL, SMALL, SMALL)
@QUICK
def test_far_flung_groups_joined_again_are_the_map(rows, columns, i, j, interval):
    height, width = rows * i * interval, columns * j * interval
    x = np.arange(2 * height * width, dtype=np.float32).reshape(2, height, width, 1)
    groups = long_distance_groups(x, (i, j), interval)
    np.testing.assert_array_equal(from_long_distance_groups(groups, (i, j), interval, height, width), x)


@given(
    st.builds(
        Grouping,
        st.sampled_from(["fixed", "stretched", "whole"]),
        st.sampled_from(["tiles", "one"]),
        st.sampled_from(["end", "both"]),
        st.booleans(),
    ),
    st.tuples(st.integers(1, 17), st.integers(1, 17)),
    st.integers(1, 5),
    st.integers(1, 4),
    st.booleans(),
    st.booleans(),
)
@settings(max_examples=10, deadline=None)
def test_by_every_rule_each_token_of_a_map_of_any_size_is_in_one_group(rule, size, group, interval, long, exact):
    grid = rule.grid(*size, group, interval, long=long, exact=exact)
    x = places(*size) + 1
    groups = grid.cut(jnp.asarray(x))
    np.testing.assert_array_equal(grid.join(groups), x)
    keys = grid.keys(None)
    real = np.asarray(groups[..., 0] > 0)
    assert real.sum() == size[0] * size[1]
    if rule.masked:
        np.testing.assert_array_equal(np.ones_like(real) if keys is None else keys, real)
    else:
        assert keys is None
    assert groups.shape[2] == grid.group[0] * grid.group[1]


def grid(size, group, interval, *, long=True, exact=False, **rule):
    return Grouping(**rule).grid(*size, group, interval, long=long, exact=exact)


def test_the_published_sizes_at_224_pixels_are_cut_without_padding():
    for side, interval in ((56, 8), (28, 4), (14, 2)):
        assert grid((side, side), 7, interval) == Grid(side, side, (7, 7), interval)
        assert grid((side, side), 7, interval, long=False) == Grid(side, side, (7, 7), 1)
    assert grid((7, 7), 7, 1) == Grid(7, 7, (7, 7))


def test_an_interval_is_fixed_or_grows_with_the_map_or_the_group_does():
    assert grid((112, 112), 7, 8).interval == 8
    stretched = grid((112, 112), 7, 8, long_distance="stretched")
    assert (stretched.group, stretched.interval) == ((7, 7), 16)
    whole = grid((40, 56), 7, 8, long_distance="whole")
    assert (whole.group, whole.interval) == ((5, 7), 8)
    assert all(grid((40, 56), 7, 8, long=False, long_distance=rule).interval == 1 for rule in ("stretched", "whole"))


def test_small_maps_are_cut_into_squares_or_left_whole_but_never_when_padding_is_exact():
    tiles = grid((3, 10), 7, 2)
    assert (tiles.group, tiles.interval, tiles.columns) == ((3, 3), 1, (0, 2))
    one = grid((3, 10), 7, 2, small_maps="one")
    assert (one.group, one.interval) == ((3, 10), 1)
    exact = grid((3, 10), 7, 2, exact=True)
    assert (exact.group, exact.interval) == ((2, 5), 2)


def test_padding_stands_at_the_end_or_on_both_sides():
    assert grid((16, 20), 7, 2, masked=False).rows == (0, 12)
    both = grid((16, 21), 7, 2, pad="both")
    assert (both.rows, both.columns) == ((6, 6), (3, 4))


def test_rows_of_groups_that_hold_only_masked_padding_are_left_out():
    assert grid((24, 24), 7, 8).group == (3, 3)
    assert grid((24, 24), 7, 8, masked=False).group == (7, 7)


def test_tokens_off_the_image_are_no_keys():
    valid = np.zeros((2, 4, 5), bool)
    valid[0], valid[1, :3, :2] = True, True
    cut = Grouping().grid(4, 5, 3, 1, long=False, exact=True)
    keys = np.asarray(cut.keys(jnp.asarray(valid)))
    assert keys.shape == (2, 4, 9)
    assert keys.sum((1, 2)).tolist() == [20, 6]


def test_grouping_is_a_transpose_and_needs_no_index():
    cut = Grouping().grid(50, 30, 7, 2, long=True, exact=False)
    jaxpr = jax.make_jaxpr(lambda x: cut.join(cut.cut(x)))(jnp.zeros((1, 50, 30, 4)))
    used = {str(equation.primitive) for equation in jaxpr.eqns}
    flat = {"reshape", "transpose", "pad", "slice", "jit", "pjit", "convert_element_type"}
    assert "transpose" in used and used <= flat


@pytest.mark.parametrize("masked", [True, False])
def test_the_mask_of_padding_is_a_constant(masked):
    keys = Grouping(masked=masked).grid(5, 5, 3, 1, long=False, exact=False).keys(None)
    assert isinstance(keys, np.ndarray) if masked else keys is None
