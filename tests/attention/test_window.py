import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from plug_ins import refusal
from quick import drawn

from vitjax.attention.window import WindowAttention, WindowSelfAttention

CHANNELS, HEADS = 8, 2
MAP = WindowSelfAttention(HEADS, window=3, shift=True)


def tokens(count, batch=4):
    return jnp.asarray(np.random.default_rng(count).normal(size=(batch, count, CHANNELS)).astype(np.float32))


def picture(height, width):
    return jnp.asarray(np.random.default_rng(width).normal(size=(1, height, width, CHANNELS)).astype(np.float32))


def params_of(module, x):
    return drawn(jax.eval_shape(module.init, jax.random.key(0), x)["params"])


def written_out(params, x, window, mask):
    """One window in float64, pair by pair; the table is read by its rows and columns of offsets."""
    params, x = jax.tree.map(np.float64, params), np.float64(x)
    q, k, v = np.split(x @ params["qkv"]["kernel"] + params["qkv"]["bias"], 3, axis=-1)
    table = params["position_bias"]["table"].reshape(2 * window[0] - 1, 2 * window[1] - 1, HEADS)
    places, width = list(np.ndindex(window)), CHANNELS // HEADS
    weights = np.zeros((HEADS, len(places), len(places)))
    for head, (i, query), (j, key) in itertools.product(range(HEADS), enumerate(places), enumerate(places)):
        part = slice(head * width, (head + 1) * width)
        bias = table[query[0] - key[0] + window[0] - 1, query[1] - key[1] + window[1] - 1, head]
        weights[head, i, j] = np.exp(q[i, part] @ k[j, part] / math.sqrt(width) + bias + mask[i, j])
    weights /= weights.sum(-1, keepdims=True)
    mixed = np.einsum("hij,jhd->ihd", weights, v.reshape(len(places), HEADS, width)).reshape(x.shape)
    return mixed @ params["output"]["kernel"] + params["output"]["bias"], weights


@pytest.mark.parametrize("window", [(3, 3), (2, 4)], ids=str)
def test_each_window_is_the_published_formula_with_the_masks_in_turn(window):
    count = math.prod(window)
    module, x = WindowAttention(HEADS, window), tokens(math.prod(window))
    params, seen = params_of(module, x), np.random.default_rng(0).random((2, count, count)) < 0.7
    seen |= np.eye(count, dtype=bool)
    added = np.where(seen, 0, -100).astype(np.float32)
    run = jax.jit(lambda mask: module.apply({"params": params}, x, mask, mutable=["intermediates"]))
    (found, sown), (strict, _) = run(added), run(seen)
    for i in range(len(x)):
        wanted, weights = written_out(params, x[i], window, added[i % 2])
        np.testing.assert_allclose(found[i], wanted, atol=1e-5)
        np.testing.assert_allclose(strict[i], wanted, atol=1e-5)
        np.testing.assert_allclose(sown["intermediates"]["attention"][0][i], weights, atol=1e-6)


def test_separate_layers_are_the_fused_one_in_parts():
    fused, x = WindowAttention(HEADS, (3, 3)), tokens(9)
    params = params_of(fused, x)
    parts = {name: np.split(leaf, 3, axis=-1) for name, leaf in params["qkv"].items()}
    apart = {key: {name: leaf[i] for name, leaf in parts.items()} for i, key in enumerate(("query", "key", "value"))}
    found = jax.jit(fused.clone(projection="separate").apply)({"params": params | apart}, x)
    np.testing.assert_allclose(found, jax.jit(fused.apply)({"params": params}, x), atol=1e-6)


def test_on_a_map_it_starts_as_the_identity():
    x = picture(7, 5)
    np.testing.assert_array_equal(jax.jit(MAP.init_with_output)(jax.random.key(0), x)[0], x)


@pytest.mark.parametrize("shift", [False, True], ids=["plain", "shifted"])
def test_the_sown_weights_lead_from_each_pixel_to_its_window(shift):
    module, x = MAP.clone(shift=shift), picture(7, 5)
    run = jax.jit(lambda params: module.apply({"params": params}, x, mutable=["intermediates"])[1])
    sown = run(params_of(module, x))
    weights = np.asarray(sown["intermediates"]["attention"][0]).reshape(7, 5, 7, 5)
    np.testing.assert_allclose(weights.sum((2, 3)), 1, rtol=1e-5)
    for query, key in itertools.product(np.ndindex(7, 5), repeat=2):
        together = all((a - shift) // 3 == (b - shift) // 3 for a, b in zip(query, key, strict=True))
        assert (weights[(*query, *key)] > 0) == together


def test_a_padded_map_gives_what_it_gives_alone():
    x, valid = np.full((2, 8, 7, CHANNELS), 5.0, np.float32), np.zeros((2, 8, 7), bool)
    params = params_of(MAP, picture(7, 5))
    for i, size in enumerate([(7, 5), (2, 7)]):
        x[i, : size[0], : size[1]], valid[i, : size[0], : size[1]] = picture(*size)[0], True
    run = jax.jit(MAP.apply)
    together = np.asarray(run({"params": params}, jnp.asarray(x), jnp.asarray(valid)))
    for i, size in enumerate([(7, 5), (2, 7)]):
        alone = run({"params": params}, picture(*size))
        np.testing.assert_allclose(together[i, : size[0], : size[1]], alone[0], atol=1e-5)
    assert not together[~valid].any()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_it_works_under_jit_with_gradients_to_all(dtype):
    module, x = MAP.clone(dtype=dtype, window=2), jnp.asarray(picture(3, 2), dtype)
    params = params_of(module, x)

    def energy(params, x):
        out = module.apply({"params": params}, x)
        return (out.astype(jnp.float32) ** 2).sum(), out

    gradients, out = jax.jit(jax.grad(energy, argnums=(0, 1), has_aux=True))(params, x)
    assert out.dtype == dtype
    assert all(np.isfinite(leaf).all() and np.any(leaf) for leaf in jax.tree.leaves(gradients))


def test_channels_and_tokens_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="divisible by heads=3; got 8 channels"):
        params_of(WindowAttention(3, (3, 3)), tokens(9))
    with pytest.raises(ValueError, match="has 9 tokens; got 8"):
        params_of(WindowAttention(HEADS, (3, 3)), tokens(8))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": 0}, "at least one pixel wide; got window=0"),
        ({"heads": 0}, "at least one head; got heads=0"),
        ({"heads": -2}, "at least one head; got heads=-2"),
        ({"projection": "shared"}, "fused or separate; got projection='shared'"),
    ],
    ids=str,
)
def test_windows_that_cannot_be_are_refused_in_words(options, message):
    with refusal(message):
        params_of(MAP.clone(**options), picture(7, 5))
