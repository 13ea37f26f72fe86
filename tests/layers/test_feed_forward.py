import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from quick import drawn

from vitjax.layers.feed_forward import FeedForward, Perceptron
from vitjax.layers.gelu_feed_forward import GeluFeedForward

CHANNELS = 8
X = np.random.default_rng(0).normal(size=(3, 5, CHANNELS)).astype(np.float32)


def test_feed_forward_is_two_linear_layers_with_a_relu_between():
    init = functools.partial(FeedForward(16).init, train=False)
    variables = drawn(jax.eval_shape(init, jax.random.key(0), X))
    expand, contract = (variables["params"][name] for name in ("expand", "contract"))
    hidden = np.maximum(np.float64(X) @ expand["kernel"] + expand["bias"], 0)
    wanted = hidden @ contract["kernel"] + contract["bias"]
    found = jax.jit(lambda x: FeedForward(16).apply(variables, x, train=False))(X)
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_feed_forward_drops_hidden_activations_in_training_only():
    module = FeedForward(CHANNELS, dropout=0.5)
    identity = {"kernel": np.eye(CHANNELS, dtype=np.float32), "bias": np.zeros(CHANNELS, np.float32)}
    variables = {"params": {"expand": identity, "contract": identity}}

    def run(train):
        rngs = {"dropout": jax.random.key(0)}
        return jax.jit(lambda x: module.apply(variables, x, train=train, rngs=rngs))(np.ones_like(X))

    assert set(np.unique(run(train=False))) == {1.0} and set(np.unique(run(train=True))) == {0.0, 2.0}


def test_a_perceptron_has_no_activation_after_its_last_layer_and_one_after_all_others():
    perceptron = Perceptron(hidden=16, outputs=4)
    variables = drawn(jax.eval_shape(perceptron.init, jax.random.key(0), X))
    layers = [variables["params"][f"layer_{i}"] for i in range(3)]
    x = np.float64(X)
    for layer in layers[:-1]:
        x = np.maximum(x @ layer["kernel"] + layer["bias"], 0)
    wanted = x @ layers[-1]["kernel"] + layers[-1]["bias"]
    assert (wanted < 0).any()
    np.testing.assert_allclose(jax.jit(perceptron.apply)(variables, X), wanted, atol=1e-5)


def test_a_perceptron_starts_as_torch_starts_it():
    params = jax.jit(Perceptron(hidden=64, outputs=4).init)(jax.random.key(0), np.zeros((1, 32), np.float32))["params"]
    for layer, fan_in in (("layer_0", 32), ("layer_1", 64), ("layer_2", 64)):
        bound = 1 / math.sqrt(fan_in)
        assert 0.95 * bound < np.abs(params[layer]["kernel"]).max() <= bound * (1 + 1e-6)
        assert 0 < np.abs(params[layer]["bias"]).max() <= bound


def test_a_perceptron_with_a_start_answers_it_to_everything():
    perceptron = Perceptron(hidden=16, outputs=4, start=(0.0, 1.0, -2.0, 3.0))
    found, variables = jax.jit(perceptron.init_with_output)(jax.random.key(0), X)
    np.testing.assert_array_equal(found, np.broadcast_to(np.float32([0, 1, -2, 3]), (3, 5, 4)))
    assert variables["params"]["layer_1"]["kernel"].any() and not variables["params"]["layer_2"]["kernel"].any()


def test_the_gelu_network_takes_the_exact_gelu():
    variables = drawn(jax.eval_shape(GeluFeedForward(16).init, jax.random.key(0), X))
    expand, contract = (variables["params"][name] for name in ("expand", "contract"))
    hidden = np.float64(X) @ expand["kernel"] + expand["bias"]
    hidden = hidden * 0.5 * (1 + np.vectorize(math.erf)(hidden / math.sqrt(2)))
    wanted = hidden @ contract["kernel"] + contract["bias"]
    np.testing.assert_allclose(jax.jit(GeluFeedForward(16).apply)(variables, X), wanted, atol=1e-5)


@pytest.mark.parametrize(("rate", "train"), [(0.0, True), (0.3, False), (0.3, True)])
def test_gradients_are_those_of_the_network_written_out(rate, train):
    model, x = (
        FeedForward(hidden=12, dropout=rate),
        jnp.asarray(np.random.default_rng(0).normal(size=(2, 5, 6)), jnp.float32),
    )
    variables = drawn(jax.eval_shape(lambda: model.init(jax.random.key(0), x, train=False)))

    def answer(params, x):
        return model.apply({"params": params}, x, train=train, rngs={"dropout": jax.random.key(1)})

    def written_out(params, x, left):
        h = nn.relu(x @ params["expand"]["kernel"] + params["expand"]["bias"]) * left
        return h @ params["contract"]["kernel"] + params["contract"]["bias"]

    found, back = jax.vjp(answer, variables["params"], x)
    # Which numbers are left out shows in the gradient of a contraction that adds up.
    probe = jax.tree.map(lambda leaf: leaf, variables["params"])
    probe["expand"] = {"kernel": jnp.zeros((6, 12)), "bias": jnp.ones(12)}
    probe["contract"] = {"kernel": jnp.eye(12, 6), "bias": jnp.zeros(6)}
    first = answer(probe, x)
    probe["contract"] = {"kernel": jnp.eye(12, 6, -6), "bias": jnp.zeros(6)}
    left = jnp.concatenate([first, answer(probe, x)], -1)
    assert (rate > 0 and train) == bool((left == 0).any())
    wanted, backward = jax.vjp(lambda params, x: written_out(params, x, left), variables["params"], x)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)
    for ours, theirs in zip(jax.tree.leaves(back(found)), jax.tree.leaves(backward(found)), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
