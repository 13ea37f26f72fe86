import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from quick import drawn

from vitjax.detection.deformable_decoder import DeformableDecoder
from vitjax.detection.deformable_encoder import Memory
from vitjax.layers.feed_forward import Perceptron

LAYERS, QUERIES, CHANNELS, SHAPES = 3, 4, 8, ((3, 4), (2, 2))


class Decoding(nn.Module):
    """The decoder with a head of its own for every layer."""

    remat: bool = False
    look_forward_twice: bool = False

    @nn.compact
    def __call__(self, x, position, reference, memory, **options):
        sizes = {"heads": 2, "levels": 2, "points": 2, "feed_forward": 16, "refine": True, "remat": self.remat}
        heads = [Perceptron(CHANNELS, 4, name=f"box_head_{i}") for i in range(LAYERS)]
        decoder = DeformableDecoder(LAYERS, **sizes, look_forward_twice=self.look_forward_twice, name="decoder")
        return decoder(x, position, reference, memory, heads, train=True, **options)


@pytest.fixture(scope="module")
def inputs():
    generator = np.random.default_rng(0)
    tokens = sum(height * width for height, width in SHAPES)
    shapes = ((2, QUERIES, CHANNELS), (2, QUERIES, CHANNELS), (2, tokens, CHANNELS))
    x, position, row = (jnp.asarray(generator.normal(size=shape), jnp.float32) for shape in shapes)
    reference = jnp.asarray(generator.uniform(0.3, 0.7, (2, QUERIES, 4)), jnp.float32)
    return x, position, reference, Memory(row, jnp.ones((2, tokens), bool), jnp.ones((2, 2, 2)), SHAPES)


@pytest.fixture(scope="module")
def variables(inputs):
    return drawn(jax.eval_shape(lambda *x: Decoding().init(jax.random.key(0), *x), *inputs))


@functools.cache
def compiled(module):
    return jax.jit(lambda variables, *x, **options: module.apply(variables, *x, **options))


@functools.cache
def gradient_of_boxes(module):
    def total(params, weights, inputs):
        return (module.apply({"params": params}, *inputs)[1].sum((1, 2, 3)) * weights).sum()

    return jax.jit(jax.grad(total))


def reached(module, variables, inputs, layer):
    """The parts that the boxes of a layer train."""
    tree = gradient_of_boxes(module)(variables["params"], jnp.eye(LAYERS)[layer], inputs)
    parts = {name: leaf for name, leaf in tree.items() if name != "decoder"} | tree["decoder"]
    return {name for name, part in parts.items() if any(np.any(leaf) for leaf in jax.tree.leaves(part))}


def test_looking_forward_twice_changes_no_value_and_trains_the_head_of_the_layer_before_alone(variables, inputs):
    once, twice = Decoding(), Decoding(look_forward_twice=True)
    for a, b in zip(compiled(once)(variables, *inputs), compiled(twice)(variables, *inputs), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    layers = {f"layer_{i}" for i in range(LAYERS)}
    assert reached(once, variables, inputs, 2) == layers | {"box_head_2"}
    assert reached(twice, variables, inputs, 2) == layers | {"box_head_2", "box_head_1"}
    assert reached(twice, variables, inputs, 0) == {"layer_0", "box_head_0"}


def test_the_gradient_of_a_box_looked_at_twice_is_that_of_the_chain_of_one_layer(variables, inputs):
    """By hand: from both boxes' changes, with the box before the last as a number."""
    heads = [f"box_head_{i}" for i in range(LAYERS)]
    params = {name: variables["params"][name] for name in heads}
    queries, boxes = compiled(Decoding())(variables, *inputs)

    def logit(x):
        return jnp.log(x / (1 - x))

    def by_hand(params):
        changes = [Perceptron(CHANNELS, 4).apply({"params": params[heads[i]]}, queries[i]) for i in (1, 2)]
        moved = jax.nn.sigmoid(changes[0] + logit(boxes[0]))
        return jax.nn.sigmoid(changes[1] + logit(moved)).sum()

    found = gradient_of_boxes(Decoding(look_forward_twice=True))(variables["params"], jnp.eye(LAYERS)[2], inputs)
    # The heads' own gradients alone: the queries do not depend on them, since references are handed on without any.
    for name, wanted in jax.grad(by_hand)(params).items():
        jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5), found[name], wanted)


def test_queries_see_those_that_pairs_lets_them(variables, inputs):
    x, *others = inputs
    pairs = np.kron(np.eye(2), np.ones((2, 2))).astype(bool)  # two groups of two
    changed = x.at[:, 2:].add(1)
    found, wanted = (compiled(Decoding())(variables, y, *others, pairs=pairs)[0] for y in (changed, x))
    np.testing.assert_array_equal(found[:, :, :2], wanted[:, :, :2])
    assert not np.allclose(found[:, :, 2:], wanted[:, :, 2:], atol=1e-2)
    free = [compiled(Decoding())(variables, y, *others)[0] for y in (changed, x)]
    assert not np.allclose(free[0][:, :, :2], free[1][:, :, :2], atol=1e-2)


@pytest.mark.parametrize("twice", [False, True])
def test_computed_anew_the_gradients_are_the_same(variables, inputs, twice):
    def total(variables, module):
        queries, boxes = module.apply(variables, *inputs, pairs=jnp.eye(QUERIES, dtype=bool))
        return (queries**2).sum() + boxes.sum()

    gradient = jax.jit(jax.grad(total), static_argnums=1)
    plain, again = (gradient(variables, Decoding(remat=remat, look_forward_twice=twice)) for remat in (False, True))
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4), again, plain)
