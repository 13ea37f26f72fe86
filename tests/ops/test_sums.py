import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vitjax.ops.sums import sum_by_halves


@pytest.mark.parametrize("shape", [(1,), (3, 0), (2, 1), (3, 7), (4, 5, 6), (2, 8192)], ids=str)
def test_the_sum_is_that_of_all_numbers(shape):
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    np.testing.assert_allclose(sum_by_halves(jnp.asarray(x)), x.sum(dtype=np.float64), rtol=1e-5, atol=1e-5)


def test_it_rounds_less_than_one_sum_from_front_to_back():
    x = np.random.default_rng(0).uniform(size=(1, 100_000)).astype(np.float32)
    exact, one_by_one = x.sum(dtype=np.float64), np.cumsum(x, dtype=np.float32)[-1]
    error = abs(np.float64(jax.jit(sum_by_halves)(x)) - exact)
    assert error <= 2 * np.spacing(np.float32(exact)) < abs(one_by_one - exact)
