import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vitjax.ops.padded_maps import cell_means, extents, resize_within, valid_ratio
from vitjax.ops.resize import resize_bilinear

SIZES = [(5, 3), (1, 4)]


def padded(sizes, bucket=(6, 5)):
    generator = np.random.default_rng(0)
    x, valid = np.full((len(sizes), *bucket, 2), 9.0, np.float32), np.zeros((len(sizes), *bucket), bool)
    for i, (height, width) in enumerate(sizes):
        x[i, :height, :width] = generator.normal(size=(height, width, 2))
        valid[i, :height, :width] = True
    return jnp.asarray(x), jnp.asarray(valid)


def test_extents_are_the_sides_of_the_images():
    assert extents(padded(SIZES)[1]).tolist() == [list(size) for size in SIZES]


def test_each_image_is_resized_from_corner_to_corner_as_it_is_alone():
    x, valid = padded(SIZES)
    wanted = padded([(9, 6), (3, 7)], (10, 8))[1]
    found = np.asarray(jax.jit(resize_within)(x, valid, wanted))
    for i, (height, width) in enumerate(SIZES):
        alone = resize_bilinear(x[i : i + 1, :height, :width], [(9, 6), (3, 7)][i], align_corners=True)
        np.testing.assert_allclose(found[i][wanted[i]], alone.reshape(-1, 2), atol=1e-5)
    assert not found[~wanted].any()


@pytest.mark.parametrize("cells", [2, 4])
def test_cells_cover_each_image_as_adaptive_pooling_has_them(cells):
    x, valid = padded(SIZES)
    found = np.asarray(jax.jit(cell_means, static_argnums=2)(x, valid, cells))
    for i, (height, width) in enumerate(SIZES):
        for row, column in np.ndindex(cells, cells):
            rows = slice(row * height // cells, -(-(row + 1) * height // cells))
            columns = slice(column * width // cells, -(-(column + 1) * width // cells))
            np.testing.assert_allclose(found[i, row, column], x[i, rows, columns].mean((0, 1)), atol=1e-5)


def test_the_valid_part_of_a_map_is_given_as_x_and_y():
    valid = jnp.zeros((2, 8, 12), bool).at[0, :4, :9].set(True).at[1].set(True)
    np.testing.assert_array_equal(valid_ratio(valid), [[0.75, 0.5], [1, 1]])
