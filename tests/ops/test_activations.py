import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vitjax.ops.activations import gelu

POINTS = np.concatenate([np.linspace(-12, 12, 2401), [-1e30, -1e4, -0.0, 1e-30, 1e4, 1e30]])


def exact(x):
    return x * 0.5 * math.erfc(-x / math.sqrt(2))


def slope(x):
    return (
        0.5 * math.erfc(-x / math.sqrt(2)) + x * math.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)
        if abs(x) < 1e3
        else x > 0
    )


@pytest.mark.parametrize("differentiated", [False, True])
def test_values_are_those_of_the_definition(differentiated):
    found = jax.vjp(gelu, jnp.float32(POINTS))[0] if differentiated else gelu(jnp.float32(POINTS))
    # With a slope wanted 1 + erf is rounded to float32 where erf is near -1: 6e-8, times x.
    np.testing.assert_allclose(found, [exact(x) for x in POINTS], rtol=1e-6, atol=5e-7)


def test_slopes_are_those_of_the_definition():
    found = jax.vmap(jax.grad(gelu))(jnp.float32(POINTS))
    np.testing.assert_allclose(found, [slope(x) for x in POINTS], rtol=1e-6, atol=5e-7)


def test_it_can_be_differentiated_twice_and_in_half_precision():
    curve = jax.grad(jax.grad(gelu))(jnp.float32(0.5))
    np.testing.assert_allclose(curve, (2 - 0.25) * math.exp(-0.125) / math.sqrt(2 * math.pi), rtol=1e-5)
    assert jax.grad(gelu)(jnp.bfloat16(0.5)).dtype == jnp.bfloat16
