import math

import jax
import jax.numpy as jnp
import numpy as np
from quick import drawn

from vitjax.layers.feed_forward import FeedForward, Perceptron

X = jnp.asarray(np.random.default_rng(0).normal(size=(3, 5, 8)), jnp.float32)


def test_feed_forward_is_two_linear_layers_with_a_relu_between():
    variables = drawn(jax.eval_shape(lambda: FeedForward(16).init(jax.random.key(0), X, train=False)))
    expand, contract = (variables["params"][name] for name in ("expand", "contract"))
    hidden = np.maximum(np.float64(X) @ expand["kernel"] + expand["bias"], 0)
    wanted = hidden @ contract["kernel"] + contract["bias"]
    np.testing.assert_allclose(FeedForward(16).apply(variables, X, train=False), wanted, atol=1e-5)


def test_feed_forward_drops_hidden_activations_in_training_only():
    variables = FeedForward(16).init(jax.random.key(0), X, train=False)
    module, rngs = FeedForward(16, dropout=0.5), {"dropout": jax.random.key(0)}
    resting = module.apply(variables, X, train=False, rngs=rngs)
    np.testing.assert_array_equal(resting, FeedForward(16).apply(variables, X, train=False))
    assert not np.allclose(module.apply(variables, X, train=True, rngs=rngs), resting, atol=1e-2)


def test_a_perceptron_has_no_activation_after_its_last_layer_and_one_after_all_others():
    perceptron = Perceptron(hidden=16, outputs=4)
    variables = drawn(jax.eval_shape(lambda: perceptron.init(jax.random.key(0), X)))
    layers = [variables["params"][f"layer_{i}"] for i in range(3)]
    x = np.float64(X)
    for layer in layers[:-1]:
        x = np.maximum(x @ layer["kernel"] + layer["bias"], 0)
    wanted = x @ layers[-1]["kernel"] + layers[-1]["bias"]
    assert (wanted < 0).any()
    np.testing.assert_allclose(perceptron.apply(variables, X), wanted, atol=1e-5)


def test_a_perceptron_starts_as_torch_starts_it():
    params = Perceptron(hidden=64, outputs=4).init(jax.random.key(0), jnp.zeros((1, 32)))["params"]
    for layer, fan_in in (("layer_0", 32), ("layer_1", 64), ("layer_2", 64)):
        bound = 1 / math.sqrt(fan_in)
        assert 0.95 * bound < np.abs(params[layer]["kernel"]).max() <= bound * (1 + 1e-6)
        assert 0 < np.abs(params[layer]["bias"]).max() <= bound
