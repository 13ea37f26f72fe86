import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vitjax.layers.linear import Dropout


def dropped(x, rate=0.1, key=0, train=True):
    return Dropout(rate).apply({}, x, train=train, rngs={"dropout": jax.random.key(key)})


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_a_share_of_the_numbers_is_zero_and_the_others_keep_the_mean(rate):
    x = jnp.ones((301, 301))
    found = np.asarray(dropped(x, rate))
    assert abs((found == 0).mean() - rate) < 4 * np.sqrt(rate * (1 - rate) / x.size)
    np.testing.assert_allclose(found[found > 0], 1 / (1 - rate), rtol=1e-4)
    columns = (found == 0).mean(0) - rate
    assert np.abs(columns).max() < 6 * np.sqrt(rate * (1 - rate) / 301)


def test_neighbours_do_not_share_their_fate():
    zero = np.asarray(dropped(jnp.ones((400, 512)), 0.5)) == 0
    both = (zero[:, 0::2] & zero[:, 1::2]).mean()
    assert abs(both - 0.25) < 0.01


def test_zeros_follow_from_the_key_and_from_where_a_number_stands():
    x = jnp.ones((4, 6, 8), jnp.bfloat16)
    assert dropped(x).dtype == jnp.bfloat16
    np.testing.assert_array_equal(dropped(x), dropped(2 * x) / 2)
    assert (np.asarray(dropped(x)) != np.asarray(dropped(x, key=1))).any()


@pytest.mark.parametrize(("rate", "expected"), [(0.0, 1), (1e-7, 1), (1.0, 0)])
def test_a_rate_at_the_ends_drops_nothing_or_everything(rate, expected):
    np.testing.assert_allclose(dropped(jnp.ones(64), rate), np.full(64, expected), rtol=1e-4)


def test_without_training_nothing_changes_and_no_random_numbers_are_needed():
    x = jnp.arange(6.0)
    np.testing.assert_array_equal(Dropout(0.5).apply({}, x, train=False), x)


def test_the_gradient_goes_where_the_numbers_went():
    gradient = jax.grad(lambda x: (dropped(x, 0.5) * jnp.arange(1.0, 9)).sum())(jnp.ones(8))
    np.testing.assert_array_equal(gradient, dropped(jnp.ones(8), 0.5) * jnp.arange(1.0, 9))
