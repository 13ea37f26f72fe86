import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vitjax.layers.positions import LearnedPosition

POSITION = LearnedPosition(channels=6)


def test_every_cell_has_the_vector_of_its_column_then_that_of_its_row():
    valid = jnp.ones((2, 3, 4), bool)
    variables = POSITION.init(jax.random.key(0), valid)
    row, column = variables["params"]["row"], variables["params"]["column"]
    found = POSITION.apply(variables, valid)
    for image, y, x in np.ndindex(2, 3, 4):
        np.testing.assert_array_equal(found[image, y, x], np.concatenate([column[x], row[y]]))


def test_vectors_start_uniform_between_zero_and_one():
    params = LearnedPosition(256).init(jax.random.key(0), jnp.ones((1, 2, 2), bool))["params"]
    for values in (params["row"], params["column"]):
        assert values.shape == (50, 128) and values.min() >= 0 and values.max() <= 1
        assert abs(values.mean() - 0.5) < 0.02


@pytest.mark.parametrize("height, width", [(51, 2), (2, 51)])
def test_a_map_beyond_fifty_cells_is_refused_and_one_of_fifty_is_not(height, width):
    with pytest.raises(ValueError, match=f"reach 50 rows and columns; the feature map has {height} x {width}"):
        POSITION.init(jax.random.key(0), jnp.ones((1, height, width), bool))
    POSITION.init(jax.random.key(0), jnp.ones((1, min(height, 50), min(width, 50)), bool))
