import time

import jax
import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from vitjax.ops.assignment import linear_assignment

solve = jax.jit(linear_assignment)


def require_optimal(cost, count):
    columns = np.asarray(solve(cost, count))
    assert (columns[count:] == 0).all() and len(set(columns[:count])) == count
    optimum = cost[:count][linear_sum_assignment(cost[:count])].sum(dtype=np.float64)
    np.testing.assert_allclose(cost[np.arange(count), columns[:count]].sum(dtype=np.float64), optimum, rtol=1e-5)


@pytest.mark.parametrize("count", [0, 1, 7, 12])
@pytest.mark.parametrize("seed", range(5))
def test_the_first_rows_are_assigned_as_cheaply_as_by_scipy(count, seed):
    require_optimal(np.random.default_rng(seed).normal(size=(12, 30)).astype(np.float32), count)


def test_a_square_problem_uses_every_column():
    require_optimal(np.random.default_rng(0).exponential(size=(30, 30)).astype(np.float32), 30)


def test_more_rows_than_columns_are_refused():
    with pytest.raises(ValueError, match="5 rows, 3 columns"):
        linear_assignment(jax.numpy.zeros((5, 3)), jax.numpy.int32(0))


def test_equal_costs_are_no_trap():
    """Where all columns are alike a search that prefers closed ones takes a step for every row before it."""
    cost = np.zeros((100, 20_000), np.float32)
    jax.block_until_ready(solve(cost, 100))
    began = time.perf_counter()
    columns = np.asarray(solve(cost, 100))
    assert len(set(columns)) == 100
    assert time.perf_counter() - began < 2


def test_rows_that_do_not_count_cost_nothing():
    """A batch has places for the image with the most objects; most images have a few."""
    cost = np.random.default_rng(1).normal(size=(100, 20_000)).astype(np.float32)
    jax.block_until_ready(solve(cost, 100))

    def seconds(count):
        began = time.perf_counter()
        jax.block_until_ready(solve(cost, count))
        return time.perf_counter() - began

    assert min(seconds(4) for _ in range(3)) < 0.5 * min(seconds(100) for _ in range(3))
