import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vitjax.ops.masks import nearest_rows, resize_valid


def test_source_rows_follow_the_floor_rule_in_float32():
    generator = np.random.default_rng(0)
    for size, resized in generator.integers(1, 1400, (200, 2)).tolist():
        scale = np.float32(size / resized)
        wanted = [min(math.floor(np.float32(i) * scale), size - 1) for i in range(resized)]
        assert nearest_rows(size, resized).tolist() == wanted, (size, resized)


def test_the_last_column_of_features_is_kept_where_sampling_at_centres_loses_it():
    valid = jnp.asarray(np.broadcast_to(np.arange(800) < 780, (1, 64, 800)))
    at_centres = jax.image.resize(valid, (1, 2, 25), "nearest")
    assert resize_valid(valid, 2, 25).all() and not at_centres[..., 24].any()


@pytest.mark.parametrize("stride", [4, 8, 16, 32])
def test_a_padded_image_keeps_as_many_cells_as_it_has_alone(stride):
    widths = np.arange(1, 321)
    valid = jnp.asarray(np.arange(320) < widths[:, None])[:, None, :]
    cells = resize_valid(valid, 1, 320 // stride).sum((1, 2))
    np.testing.assert_array_equal(cells, -(-widths // stride))


def test_rows_and_columns_are_not_confused():
    valid = jnp.zeros((1, 8, 12), bool).at[:, :4, :9].set(True)
    np.testing.assert_array_equal(resize_valid(valid, 4, 4)[0], np.outer([1, 1, 0, 0], [1, 1, 1, 0]).astype(bool))
