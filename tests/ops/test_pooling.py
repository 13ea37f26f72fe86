import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vitjax.ops.pooling import max_pool


def by_windows(x):
    return nn.max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))


def drawn(*shape):
    return jnp.asarray(np.random.default_rng(shape).normal(size=shape), jnp.float32)


@pytest.mark.parametrize("size", [(8, 6), (7, 9), (1, 1), (2, 5)], ids=str)
def test_value_and_gradient_are_those_of_windows(size):
    x = drawn(2, *size, 3)
    (found, ours), (wanted, theirs) = jax.vjp(max_pool, x), jax.vjp(by_windows, x)
    np.testing.assert_array_equal(found, wanted)
    cotangent = drawn(*found.shape)
    np.testing.assert_allclose(ours(cotangent)[0], theirs(cotangent)[0], rtol=1e-6, atol=1e-6)


def test_equal_values_share_the_gradient():
    (gradient,) = jax.vjp(max_pool, jnp.zeros((1, 4, 4, 1)))[1](jnp.ones((1, 2, 2, 1)))
    assert float(gradient.sum()) == 4
    assert float(gradient.min()) >= 0


def test_what_is_no_number_is_not_lost():
    x = drawn(1, 6, 6, 1).at[0, 1, 1].set(jnp.nan)
    np.testing.assert_array_equal(jnp.isnan(max_pool(x)), jnp.isnan(by_windows(x)))
    assert int(jnp.isnan(max_pool(x)).sum()) == 4
