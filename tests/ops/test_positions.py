import functools
import math

import jax
import numpy as np
import pytest

from vitjax.ops.positions import sine, sine_of_boxes


def positions(height, width, channels, *, inside=(7, 9), **options):
    """Sine positions of an image of so many cells that is padded to the size `inside`."""
    valid = np.zeros((1, *inside), bool)
    valid[:, :height, :width] = True
    return np.asarray(jax.jit(functools.partial(sine, channels=channels, **options))(valid)[0])


def formula(count, half, *, normalize, offset):
    """Embedding of positions 1 to `count` along one axis, from the paper's formula in float64."""
    position = np.arange(1.0, count + 1)
    position = (position + offset) / (count + 1e-6) * 2 * math.pi if normalize else position
    wanted = np.zeros((count, half))
    for i in range(half):
        angle = position / 10000 ** (2 * (i // 2) / half)
        wanted[:, i] = np.cos(angle) if i % 2 else np.sin(angle)
    return wanted


@pytest.mark.parametrize("normalize, offset", [(True, 0.0), (True, -0.5), (False, 0.0)])
def test_rows_come_first_then_columns_as_in_the_formula(normalize, offset):
    options = {"normalize": normalize, "offset": offset}
    found = positions(7, 9, 16, **options)
    np.testing.assert_allclose(found[:, 4, :8], formula(7, 8, **options), atol=1e-5)
    np.testing.assert_allclose(found[3, :, 8:], formula(9, 8, **options), atol=1e-5)


def test_the_first_half_depends_on_the_row_only_and_the_second_on_the_column_only():
    found = positions(7, 9, 16)
    np.testing.assert_array_equal(found[:, :, :8], np.broadcast_to(found[:, :1, :8], (7, 9, 8)))
    np.testing.assert_array_equal(found[:, :, 8:], np.broadcast_to(found[:1, :, 8:], (7, 9, 8)))
    assert np.ptp(found[:, 0, :8], axis=0).max() > 0.5 and np.ptp(found[0, :, 8:], axis=0).max() > 0.5


@pytest.mark.parametrize("offset", [0.0, -0.5])
def test_padding_does_not_change_the_positions_on_the_image(offset):
    padded = positions(5, 6, 8, offset=offset)[:5, :6]
    np.testing.assert_allclose(padded, positions(5, 6, 8, inside=(5, 6), offset=offset), atol=1e-6)


def test_an_image_that_is_padding_all_over_has_finite_positions():
    assert np.isfinite(positions(0, 0, 8)).all()


def test_channels_that_do_not_divide_into_pairs_per_axis_are_refused():
    with pytest.raises(ValueError, match="divisible by 4; got channels=10"):
        positions(2, 2, 10)


def test_the_four_numbers_of_a_box_follow_each_other_as_in_the_formula():
    boxes = np.random.default_rng(0).random((3, 5, 4)).astype(np.float32)
    found = jax.jit(functools.partial(sine_of_boxes, channels=8))(boxes)
    angles = 2 * math.pi * np.float64(boxes)[..., None] / 10000 ** (2 * (np.arange(8) // 2) / 8)
    wanted = np.where(np.arange(8) % 2, np.cos(angles), np.sin(angles))
    np.testing.assert_allclose(found, wanted.reshape(3, 5, 32), atol=1e-5)
