import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from plug_ins import CHANNELS, PART, maps, shapes
from quick import drawn

from vitjax.attention.dual import ChannelAttention, PositionAttention
from vitjax.layers.conv_norm import ConvNorm
from vitjax.segmentation.dual_head import DualAttentionHead

HEAD = DualAttentionHead()
X, VALID = maps()


@functools.cache
def variables_of(module):
    made = dict(jax.eval_shape(lambda: module.init(jax.random.key(0), X, num_classes=3, train=False)))
    return drawn({name: tree for name, tree in made.items() if name != "intermediates"})


def part(name):
    """The variables of a part of the head."""
    return {collection: tree[name] for collection, tree in variables_of(HEAD).items() if name in tree}


@jax.jit
def by_hand(x):
    """The three outputs, put together from the head's parts."""

    def branch(name, attention):
        y = ConvNorm(4).apply(part(f"{name}_in"), x, train=False)
        return ConvNorm(4).apply(part(f"{name}_out"), attention.apply(part(f"{name}_attention"), y), train=False)

    def classify(y, name):
        return y @ part(name)["params"]["kernel"] + part(name)["params"]["bias"]

    position, channel = branch("position", PositionAttention()), branch("channel", ChannelAttention())
    both = classify(position + channel, "classes")
    return both, classify(position, "position_classes"), classify(channel, "channel_classes")


@functools.cache
def compiled(module):
    return jax.jit(lambda v, x, valid: module.apply(v, x, valid, num_classes=3, train=False))


def test_the_outputs_are_of_both_branches_of_position_and_of_channel_whatever_lies_on_padding():
    found = compiled(HEAD)(variables_of(HEAD), X, VALID)
    rows, columns = PART
    alone = by_hand(X[1:, :rows, :columns])
    for logits, wanted in zip(found, alone, strict=True):
        assert logits.dtype == jnp.float32
        np.testing.assert_allclose(logits[1:, :rows, :columns], wanted, atol=2e-5)
        assert not np.asarray(logits)[~np.asarray(VALID)].any()


@pytest.mark.parametrize("norm", ["batch", "frozen_batch", "group"])
def test_every_norm_has_its_variables(norm):
    found = shapes(variables_of(DualAttentionHead(norm=norm)))
    collection = "frozen" if norm == "frozen_batch" else "params"
    assert found[f"{collection}/channel_in/norm/scale"] == (4,)
    assert any("mean" in name for name in found) == (norm != "group")


def test_parameters_are_a_quarter_as_wide_as_the_map():
    found = shapes(variables_of(HEAD)["params"])
    parts = [f"{branch}_{at}" for branch in ("position", "channel") for at in ("in", "attention", "out", "classes")]
    assert {name.split("/")[0] for name in found} == {*parts, "classes"}
    assert found["position_in/conv/kernel"] == (3, 3, CHANNELS, 4) and found["channel_out/norm/bias"] == (4,)
    assert found["position_attention/query/kernel"] == (4, 1) and found["classes/kernel"] == (4, 3)
    assert shapes(variables_of(DualAttentionHead(channels=6))["params"])["classes/kernel"] == (6, 3)


def test_training_in_bfloat16_drops_channels_and_has_finite_gradients():
    head = DualAttentionHead(dropout=0.5, dtype="bfloat16")
    variables = variables_of(HEAD)

    @jax.jit
    @functools.partial(jax.value_and_grad, has_aux=True)
    def loss(params, key):
        outputs, _ = head.apply(
            {**variables, "params": params},
            X,
            num_classes=3,
            train=True,
            mutable="batch_stats",
            rngs={"dropout": key},
        )
        return sum(jnp.square(logits).mean() for logits in outputs), outputs

    keys = (jax.random.key(seed, impl="unsafe_rbg") for seed in (0, 1))
    ((_, first), gradients), ((_, second), _) = (loss(variables["params"], key) for key in keys)
    assert first[0].dtype == jnp.float32 and not np.allclose(first[0], second[0], atol=1e-2)
    assert all(np.isfinite(leaf).all() and leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(gradients))
