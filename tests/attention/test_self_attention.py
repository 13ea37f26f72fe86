import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from plug_ins import shapes
from quick import drawn

from vitjax.attention.self_attention import SelfAttention

TOKENS = jnp.asarray(np.random.default_rng(0).normal(size=(2, 5, 6)), jnp.float32)
VALID = jnp.arange(5) < jnp.array([[5], [3]])
MODULE = SelfAttention(key_channels=4, value_channels=7)


@pytest.fixture(scope="module")
def variables():
    return {"params": drawn(jax.eval_shape(lambda: MODULE.init(jax.random.key(0), TOKENS))["params"])}


@functools.cache
def compiled(module):
    return jax.jit(lambda variables, x, valid: module.apply(variables, x, valid, mutable="intermediates"))


def test_every_token_gathers_the_values_of_valid_tokens(variables):
    found, sown = compiled(MODULE)(variables, TOKENS, VALID)
    (weights,) = sown["intermediates"]["attention"]
    assert found.shape == (2, 5, 7) and weights.shape == (2, 5, 5) and weights.dtype == jnp.float32
    kernels = {name: np.float64(entry["kernel"]) for name, entry in variables["params"].items()}
    for image, count in enumerate(VALID.sum(1)):
        alone = np.float64(TOKENS[image, :count])
        query, key, value = (alone @ kernels[name] for name in ("query", "key", "value"))
        shares = np.exp(query @ key.T / math.sqrt(4))
        shares /= shares.sum(1, keepdims=True)
        np.testing.assert_allclose(weights[image, :count, :count], shares, atol=1e-5)
        np.testing.assert_allclose(found[image, :count], shares @ value, atol=1e-5)
    assert not np.asarray(found)[~VALID].any()
    assert not np.asarray(weights)[1, :, 3:].any()


def test_keys_and_values_have_widths_of_their_own_and_nothing_has_a_bias(variables):
    widths = {"query/kernel": (6, 4), "key/kernel": (6, 4), "value/kernel": (6, 7)}
    assert shapes(variables["params"]) == widths


def test_bfloat16_is_close_and_its_gradients_are_finite(variables):
    module = SelfAttention(4, 7, dtype="bfloat16")

    def loss(variables, x):
        y = module.apply(variables, x)
        return jnp.square(y.astype(jnp.float32)).sum(), y

    (_, y), gradients = jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))(variables, TOKENS)
    assert y.dtype == jnp.bfloat16
    wanted, _ = compiled(MODULE)(variables, TOKENS, None)
    np.testing.assert_allclose(y.astype(np.float32), wanted, atol=0.05)
    assert all(np.isfinite(leaf).all() and leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(gradients))
