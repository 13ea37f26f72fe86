import functools
import math

import jax
import numpy as np
import pytest
from quick import drawn

from vitjax.attention.conditional import ConditionalAttention
from vitjax.errors import FieldError

BATCH, QUERIES, KEYS, CHANNELS, HEADS = 2, 3, 5, 12, 3
generator = np.random.default_rng(1)
QUERY, POSITION, SPATIAL = generator.normal(size=(3, BATCH, QUERIES, CHANNELS)).astype(np.float32)
KEY, KEY_POSITION = generator.normal(size=(2, BATCH, KEYS, CHANNELS)).astype(np.float32)
VALID = np.arange(KEYS) < np.array([[KEYS], [2]])
GIVEN = (QUERY, None, KEY, KEY_POSITION)
KINDS = {"added": (POSITION, None), "beside each other": (None, SPATIAL), "both": (POSITION, SPATIAL)}


@functools.cache
def attended(kind):
    """Variables, the mixture and the weights."""
    module, (position, spatial) = ConditionalAttention(HEADS), KINDS[kind]
    given = (QUERY, position, KEY, KEY_POSITION, VALID, spatial)
    made = jax.eval_shape(lambda *given: module.init(jax.random.key(0), *given, train=False), *given)
    variables = drawn({"params": made["params"]})
    run = jax.jit(lambda v, *given: module.apply(v, *given, train=False, mutable=["intermediates"]))
    mixed, state = jax.device_get(run(variables, *given))
    return variables, mixed, state["intermediates"]["weights"][0]


def reference(variables, position, spatial):
    """The mixture and the weights in float64: a score is a sum of products of contents and positions."""
    params = jax.tree.map(np.float64, variables["params"])

    def heads(x, name):
        return (x @ params[name]["kernel"] + params[name]["bias"]).reshape(*x.shape[:2], HEADS, -1)

    q, k, v, p = heads(QUERY, "query_content"), heads(KEY, "key_content"), heads(KEY, "value"), None
    if position is not None:
        q, k = q + heads(position, "query_position"), k + heads(KEY_POSITION, "key_position")
    scores = np.einsum("bqhd,bkhd->bhqk", q, k)
    if spatial is not None:
        p = heads(KEY_POSITION, "key_position")
        scores += np.einsum("bqhd,bkhd->bhqk", heads(spatial, "query_spatial"), p)
    scores /= math.sqrt(CHANNELS / HEADS * (1 if spatial is None else 2))
    weights = np.exp(scores) * VALID[:, None, None]
    weights /= weights.sum(-1, keepdims=True)
    mixed = np.einsum("bhqk,bkhd->bqhd", weights, v).reshape(QUERY.shape)
    return mixed @ params["out"]["kernel"] + params["out"]["bias"], weights


@pytest.mark.parametrize("kind", KINDS)
def test_contents_and_positions_are_compared_each_by_itself(kind):
    variables, *found = attended(kind)
    for mine, wanted in zip(found, reference(variables, *KINDS[kind]), strict=True):
        np.testing.assert_allclose(mine, wanted, atol=1e-5)


def test_only_layers_that_are_used_are_there():
    names = {kind: set(attended(kind)[0]["params"]) for kind in KINDS}
    assert names["both"] - names["added"] == {"query_spatial"}
    assert names["both"] - names["beside each other"] == {"query_position"}


def test_channels_that_heads_cannot_share_are_named():
    with pytest.raises(FieldError, match="divisible by heads=5; got 12 channels"):
        jax.eval_shape(lambda *given: ConditionalAttention(5).init(jax.random.key(0), *given, train=False), *GIVEN)
