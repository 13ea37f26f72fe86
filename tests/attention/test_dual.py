import numpy as np
import pytest
from plug_ins import (
    CHANNELS,
    PART,
    SPACE,
    require_as_alone,
    require_gradients_in_bfloat16,
    require_identity_start,
    shapes,
    variables_of,
)

from vitjax.attention.dual import ChannelAttention, DualAttention, PositionAttention


def position(x, params):
    """What pixels gather, one query at a time."""
    tokens = x.reshape(-1, x.shape[-1])
    query, key, value = (tokens @ params[n]["kernel"] + params[n]["bias"] for n in ("query", "key", "value"))
    mixed = np.empty_like(tokens)
    for i, one in enumerate(query):
        weights = np.exp(key @ one)
        mixed[i] = weights / weights.sum() @ value
    return params["gamma"] * mixed.reshape(x.shape)


def channel(x, params):
    """What channels gather, one channel at a time: the least like it the most."""
    tokens = x.reshape(-1, x.shape[-1])
    energy = tokens.T @ tokens
    mixed = np.empty_like(tokens)
    for i, row in enumerate(energy):
        weights = np.exp(row.max() - row - (row.max() - row).max())
        mixed[:, i] = tokens @ (weights / weights.sum())
    return params["gamma"] * mixed.reshape(x.shape)


def test_position_attention_is_that_of_the_formula():
    sown = require_as_alone(PositionAttention(), lambda x, variables: x + position(x, variables["params"]))
    (weights,) = sown["attention"]
    pixels = SPACE[0] * SPACE[1]
    assert weights.shape == (2, pixels, pixels)
    seen = np.asarray(weights[1]).reshape(*SPACE, *SPACE).any((0, 1))
    assert seen[: PART[0], : PART[1]].all() and seen.sum() == PART[0] * PART[1]


def test_channel_attention_is_that_of_the_formula():
    sown = require_as_alone(ChannelAttention(), lambda x, variables: x + channel(x, variables["params"]))
    (weights,) = sown["channel_attention"]
    assert weights.shape == (2, CHANNELS, CHANNELS)
    np.testing.assert_allclose(weights.sum(-1), 1, atol=1e-6)


def test_dual_attention_adds_both_to_the_map():
    def reference(x, variables):
        params = variables["params"]
        return x + position(x, params["position"]) + channel(x, params["channel"])

    sown = require_as_alone(DualAttention(), reference)
    assert set(shapes(sown)) == {"position/attention/0", "channel/channel_attention/0"}


@pytest.mark.parametrize("module", [PositionAttention(), ChannelAttention(), DualAttention()], ids=type)
def test_it_starts_as_identity(module):
    require_identity_start(module)


def test_gradients_in_bfloat16():
    require_gradients_in_bfloat16(DualAttention())


def test_parameters_are_named_after_the_two_branches():
    found = shapes(variables_of(DualAttention(key_channels=3))["params"])
    assert found == {
        "channel/gamma": (1,), "position/gamma": (1,), "position/query/kernel": (16, 3), "position/query/bias": (3,),
        "position/key/kernel": (16, 3), "position/key/bias": (3,), "position/value/kernel": (16, 16),
        "position/value/bias": (16,)}  # fmt: skip
    assert shapes(variables_of(PositionAttention())["params"])["query/kernel"] == (16, 2)
