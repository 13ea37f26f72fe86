import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from plug_ins import CHANNELS, PART, maps, shapes
from quick import drawn

from vitjax.attention.criss_cross import CrissCrossAttention
from vitjax.layers.conv_norm import ConvNorm
from vitjax.segmentation.criss_cross_head import CrissCrossHead

HEAD = CrissCrossHead(hidden=10)
X, VALID = maps()


@functools.cache
def variables_of(module):
    made = dict(jax.eval_shape(lambda: module.init(jax.random.key(0), X, num_classes=3, train=False)))
    variables = drawn({name: tree for name, tree in made.items() if name != "intermediates"})
    for name in ("reduce", "gather", "bottleneck"):
        if "norm" in variables["params"][name]:
            variables["params"][name]["norm"]["scale"][::2] *= -1
    return variables


def part(name):
    """The variables of a part of the head."""
    return {collection: tree[name] for collection, tree in variables_of(HEAD).items() if name in tree}


@jax.jit
def by_hand(x):
    """The logits, put together from the head's parts."""
    y = ConvNorm(4, activation="in_place").apply(part("reduce"), x, train=False)
    y = CrissCrossAttention().apply(part("attention"), y)
    y = ConvNorm(4, activation="in_place").apply(part("gather"), y, train=False)
    y = ConvNorm(10, activation="in_place").apply(part("bottleneck"), jnp.concatenate([x, y], -1), train=False)
    return y @ part("classes")["params"]["kernel"] + part("classes")["params"]["bias"]


@functools.cache
def compiled(module):
    return jax.jit(lambda v, x, valid: module.apply(v, x, valid, num_classes=3, train=False))


def test_it_joins_the_map_and_what_was_gathered_whatever_lies_on_padding():
    (logits,) = compiled(HEAD)(variables_of(HEAD), X, VALID)
    rows, columns = PART
    assert logits.dtype == jnp.float32
    np.testing.assert_allclose(logits[1:, :rows, :columns], by_hand(X[1:, :rows, :columns]), atol=2e-5)
    assert not np.asarray(logits)[~np.asarray(VALID)].any()


@pytest.mark.parametrize("norm", ["batch", "frozen_batch", "group"])
def test_every_norm_has_its_variables(norm):
    found = shapes(variables_of(CrissCrossHead(norm=norm, hidden=8)))
    collection = "frozen" if norm == "frozen_batch" else "params"
    assert found[f"{collection}/bottleneck/norm/scale"] == (8,)
    assert any("mean" in name for name in found) == (norm != "group")


def test_widths_are_those_of_the_reference_unless_told_otherwise():
    found = shapes(variables_of(CrissCrossHead())["params"])
    assert {name.split("/")[0] for name in found} == {"reduce", "attention", "gather", "bottleneck", "classes"}
    assert found["reduce/conv/kernel"] == (3, 3, CHANNELS, 4) and found["gather/conv/kernel"] == (3, 3, 4, 4)
    assert found["bottleneck/conv/kernel"] == (3, 3, CHANNELS + 4, 512) and found["classes/kernel"] == (512, 3)
    assert shapes(variables_of(CrissCrossHead(channels=6))["params"])["attention/value/kernel"] == (6, 6)


def test_training_in_bfloat16_drops_channels_and_has_finite_gradients():
    head = CrissCrossHead(hidden=10, passes=1, dropout=0.5, dtype="bfloat16")
    variables = variables_of(HEAD)

    @jax.jit
    @functools.partial(jax.value_and_grad, has_aux=True)
    def loss(params, key):
        (logits,), _ = head.apply(
            {**variables, "params": params},
            X,
            num_classes=3,
            train=True,
            mutable="batch_stats",
            rngs={"dropout": key},
        )
        return jnp.square(logits).mean(), logits

    keys = (jax.random.key(seed, impl="unsafe_rbg") for seed in (0, 1))
    ((_, first), gradients), ((_, second), _) = (loss(variables["params"], key) for key in keys)
    assert first.dtype == jnp.float32 and not np.allclose(first, second, atol=1e-2)
    assert all(np.isfinite(leaf).all() and leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(gradients))
