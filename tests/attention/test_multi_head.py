import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from quick import drawn

from vitjax.attention.multi_head import MultiHeadAttention

BATCH, QUERIES, KEYS, CHANNELS, HEADS = 3, 5, 7, 12, 3
ATTENTION = MultiHeadAttention(HEADS)
generator = np.random.default_rng(1)
QUERY = generator.normal(size=(BATCH, QUERIES, CHANNELS)).astype(np.float32)
KEY = generator.normal(size=(BATCH, KEYS, CHANNELS)).astype(np.float32)
VALUE = generator.normal(size=(BATCH, KEYS, CHANNELS)).astype(np.float32)
VALID = np.arange(KEYS) < np.array([[KEYS], [4], [1]])


@pytest.fixture(scope="module")
def variables():
    arguments = (jax.random.key(0), QUERY, KEY, VALUE, VALID)
    return drawn(jax.eval_shape(lambda *a: ATTENTION.init(*a, train=False), *arguments))


@functools.cache
def compiled(module, train, mutable):
    def run(variables, key, *inputs):
        return module.apply(variables, *inputs, train=train, rngs={"dropout": key}, mutable=list(mutable) or False)

    return jax.jit(run)


def attend(
    variables, key=KEY, value=VALUE, valid=VALID, pairs=None, *, module=ATTENTION, train=False, seed=0, mutable=()
):
    return compiled(module, train, mutable)(variables, jax.random.key(seed), QUERY, key, value, valid, pairs)


def reference(variables, valid, key=KEY, value=VALUE):
    """Attention in float64, one query and head at a time; `valid` is of keys, or of queries and keys."""
    params = jax.tree.map(np.float64, variables["params"])
    project = {name: x @ params[name]["kernel"] + params[name]["bias"]
               for name, x in (("query", QUERY), ("key", key), ("value", value))}  # fmt: skip
    mixed = np.zeros((BATCH, QUERIES, value.shape[-1]))
    allowed = np.broadcast_to(valid[:, None] if valid.ndim == 2 else valid, (BATCH, QUERIES, KEYS))
    for image, head, query in np.ndindex(BATCH, HEADS, QUERIES):
        part, out = (slice(head * size, (head + 1) * size) for size in (CHANNELS // HEADS, value.shape[-1] // HEADS))
        scores = project["key"][image, :, part] @ project["query"][image, query, part] / math.sqrt(CHANNELS // HEADS)
        weights = np.exp(scores) * allowed[image, query]
        mixed[image, query, out] = weights / weights.sum() @ project["value"][image, :, out]
    return mixed @ params["out"]["kernel"] + params["out"]["bias"]


def test_attention_is_that_of_the_formula(variables):
    np.testing.assert_allclose(attend(variables), reference(variables, VALID), atol=1e-5)
    np.testing.assert_allclose(attend(variables, valid=None), reference(variables, np.ones_like(VALID)), atol=1e-5)


def test_masked_keys_have_no_influence(variables):
    other = np.random.default_rng(2).normal(size=KEY.shape).astype(np.float32) * 100
    masked = VALID[..., None]
    found = attend(variables, np.where(masked, KEY, other), np.where(masked, VALUE, other))
    np.testing.assert_array_equal(found, attend(variables))
    assert not np.allclose(attend(variables, np.where(masked, other, KEY)), found, atol=0.1)


def test_weights_are_given_on_request_and_the_result_stays_the_same(variables):
    found, state = attend(variables, mutable=("intermediates",))
    np.testing.assert_allclose(found, attend(variables), atol=1e-5)
    (weights,) = state["intermediates"]["weights"]
    assert weights.shape == (BATCH, HEADS, QUERIES, KEYS) and weights.dtype == jnp.float32
    np.testing.assert_allclose(weights.sum(-1), 1, atol=1e-6)
    assert not np.asarray(weights)[~np.broadcast_to(VALID[:, None, None], weights.shape)].any()


def test_an_image_without_valid_keys_stays_finite(variables):
    assert np.isfinite(attend(variables, valid=np.zeros_like(VALID))).all()


PAIRS = np.random.default_rng(3).random((BATCH, QUERIES, KEYS)) < 0.5
PAIRS[..., 0] = True


@pytest.mark.parametrize("mutable", [(), ("intermediates",)], ids=["fused", "explicit"])
@pytest.mark.parametrize("valid", [None, VALID], ids=["all keys", "some keys"])
@pytest.mark.parametrize("pairs", [PAIRS, PAIRS[0]], ids=["of each image", "of all images"])
def test_a_query_sees_the_valid_keys_that_pairs_let_it(variables, pairs, valid, mutable):
    found = attend(variables, valid=valid, pairs=pairs, mutable=mutable)
    allowed = np.broadcast_to(pairs, PAIRS.shape) & (True if valid is None else valid[:, None])
    np.testing.assert_allclose(found[0] if mutable else found, reference(variables, allowed), atol=1e-5)


@pytest.mark.parametrize("train", [False, True], ids=["fused", "explicit"])
def test_a_query_that_may_see_nothing_stays_finite_with_finite_gradients(variables, train):
    pairs, module = PAIRS.copy(), MultiHeadAttention(HEADS, dropout=0.1)
    pairs[:, 1] = False

    def total(variables, *inputs):
        rngs = {"dropout": jax.random.key(0)}
        return (module.apply(variables, *inputs, *masks, train=train, rngs=rngs) ** 2).sum()

    inputs, masks = ([jnp.asarray(x) for x in arrays] for arrays in ((QUERY, KEY, VALUE), (VALID, pairs)))
    value, gradients = jax.jit(jax.value_and_grad(total, (0, 1, 2, 3)))(variables, *inputs)
    assert np.isfinite(value) and all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))
    assert not np.any(gradients[1][:, 1])


@pytest.mark.parametrize("mutable", [(), ("intermediates",)], ids=["plain", "with weights"])
def test_values_may_be_narrower_than_queries_and_keys(mutable):
    value = VALUE[..., : CHANNELS // 2]
    inputs = (jax.random.key(0), QUERY, KEY, value, VALID)
    variables = drawn(jax.eval_shape(lambda *x: ATTENTION.init(*x, train=False), *inputs))
    sizes = {name: part["kernel"].shape for name, part in variables["params"].items()}
    half = (CHANNELS // 2, CHANNELS // 2)
    assert sizes == {"query": (CHANNELS,) * 2, "key": (CHANNELS,) * 2, "value": half, "out": half}
    found = attend(variables, value=value, pairs=PAIRS, mutable=mutable)
    wanted = reference(variables, PAIRS & VALID[:, None], value=value)
    np.testing.assert_allclose(found[0] if mutable else found, wanted, atol=1e-5)


def test_dropout_takes_whole_weights_away_per_head_and_query(variables):
    params = jax.tree.map(np.zeros_like, variables["params"])
    for name in ("value", "out"):
        params[name]["kernel"] = np.eye(CHANNELS, dtype=np.float32)
    one_key = np.arange(KEYS) < np.ones((BATCH, 1))
    module = MultiHeadAttention(HEADS, dropout=0.5)
    found = attend({"params": params}, valid=one_key, module=module, train=True)
    factors = np.asarray(found / VALUE[:, :1]).reshape(BATCH, QUERIES, HEADS, -1)
    np.testing.assert_allclose(factors, np.broadcast_to(factors[..., :1], factors.shape), atol=1e-5)
    assert set(np.unique(factors.round(4))) == {0.0, 2.0}


def test_dropout_is_drawn_anew_by_key_and_absent_outside_of_training(variables):
    module = MultiHeadAttention(HEADS, dropout=0.5)
    first, second = (attend(variables, module=module, train=True, seed=seed) for seed in (0, 1))
    assert not np.allclose(first, second, atol=1e-3)
    np.testing.assert_array_equal(attend(variables, module=module, seed=1), attend(variables))


def test_bfloat16_computes_in_it_and_stays_close(variables):
    found = attend(variables, module=MultiHeadAttention(HEADS, dtype="bfloat16"))
    assert found.dtype == jnp.bfloat16
    np.testing.assert_allclose(found.astype(np.float32), attend(variables), atol=0.1)
    _, state = attend(variables, module=MultiHeadAttention(HEADS, dtype="bfloat16"), mutable=("intermediates",))
    assert state["intermediates"]["weights"][0].dtype == jnp.float32


def test_channels_that_cannot_be_divided_among_the_heads_are_refused():
    narrow = jnp.asarray(VALUE[..., :4])
    with pytest.raises(ValueError, match="divisible by heads=3; got 4 channels"):
        ATTENTION.init(jax.random.key(0), *map(jnp.asarray, (QUERY, KEY)), narrow, train=False)
    with pytest.raises(ValueError, match="divisible by heads=5; got 12 channels"):
        MultiHeadAttention(5).init(jax.random.key(0), *map(jnp.asarray, (QUERY, KEY, VALUE)), train=False)
