import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from quick import drawn

from vitjax.detection.transformer import Decoder, Encoder

generator = np.random.default_rng(0)
QUERIES = generator.normal(size=(2, 4, 8)).astype(np.float32)
TOKENS, POSITION, OTHER = (generator.normal(size=(2, 9, 8)).astype(np.float32) for _ in range(3))
VALID = np.arange(9) < np.array([[9], [5]])


def compiled_encoder(encoder):
    """The encoder with drawn variables, from (tokens, position) to memory."""
    init = functools.partial(encoder.init, train=False)
    variables = drawn(jax.eval_shape(init, jax.random.key(0), TOKENS, POSITION, VALID))
    return jax.jit(lambda tokens, position: encoder.apply(variables, tokens, position, jnp.asarray(VALID), train=False))


@pytest.mark.parametrize("pre_norm", [False, True], ids=["post norm", "pre norm"])
def test_what_stands_on_padding_does_not_change_what_stands_on_the_image(pre_norm):
    run = compiled_encoder(Encoder(layers=2, heads=2, feed_forward=16, pre_norm=pre_norm))
    changed = [np.where(VALID[..., None], x, OTHER) for x in (TOKENS, POSITION)]
    before, after = (np.asarray(run(*inputs))[VALID] for inputs in ((TOKENS, POSITION), changed))
    np.testing.assert_array_equal(after, before)
    assert not np.allclose(np.asarray(run(OTHER, POSITION))[VALID], before, atol=1e-2)


def test_equal_tokens_stay_equal_where_only_positions_differ():
    """Positions enter queries and keys, never values: mixtures of equal values are equal, whatever the weights."""
    run = compiled_encoder(Encoder(layers=1, heads=2, feed_forward=16))
    found = run(np.broadcast_to(TOKENS[:, :1], TOKENS.shape), POSITION)
    np.testing.assert_allclose(found, np.broadcast_to(found[:, :1], found.shape), atol=1e-5)


@functools.cache
def compiled_decoder(decoder):
    return jax.jit(functools.partial(decoder.apply, train=False))


def decode(variables, decoder, memory=TOKENS, position=POSITION, queries=QUERIES):
    return compiled_decoder(decoder)(variables, queries, memory, position, VALID)


def variables_of(decoder):
    init = functools.partial(decoder.init, train=False)
    return drawn(jax.eval_shape(init, jax.random.key(0), QUERIES, TOKENS, POSITION, VALID))


@pytest.mark.parametrize("pre_norm", [False, True], ids=["post norm", "pre norm"])
def test_memory_on_padding_is_not_seen(pre_norm):
    decoder = Decoder(layers=2, heads=2, feed_forward=16, pre_norm=pre_norm)
    variables = variables_of(decoder)
    before = decode(variables, decoder)
    changed = [np.where(VALID[..., None], x, OTHER) for x in (TOKENS, POSITION)]
    np.testing.assert_array_equal(decode(variables, decoder, *changed), before)
    assert not np.allclose(decode(variables, decoder, OTHER), before, atol=1e-2)


def test_positions_choose_what_is_looked_at_and_never_enter_what_is_seen():
    decoder = Decoder(layers=1, heads=2, feed_forward=16)
    variables = variables_of(decoder)
    uniform = np.broadcast_to(TOKENS[:, :1], TOKENS.shape)
    found = decode(variables, decoder, uniform, POSITION)
    np.testing.assert_allclose(decode(variables, decoder, uniform, OTHER), found, atol=1e-5)
    other = decode(variables, decoder, uniform, POSITION, queries=2 * QUERIES)
    np.testing.assert_allclose(other, found, atol=1e-5)  # the first layer's queries hold nothing but zeros
    assert not np.allclose(decode(variables, decoder, TOKENS, OTHER), decode(variables, decoder), atol=1e-2)


def test_all_layers_share_the_last_norm():
    decoder = Decoder(layers=2, heads=2, feed_forward=16)
    variables = variables_of(decoder)
    params = variables["params"] | {"norm": {"scale": np.zeros(8, np.float32), "bias": np.arange(8, dtype=np.float32)}}
    found = decode({"params": params}, decoder)
    np.testing.assert_array_equal(found, np.broadcast_to(params["norm"]["bias"], (2, 2, 4, 8)))


def test_activations_computed_anew_change_neither_parameters_nor_gradients_nor_dropout():
    sizes = {"layers": 2, "heads": 2, "feed_forward": 16, "dropout": 0.3}
    rest = tuple(map(jnp.asarray, (QUERIES, TOKENS, POSITION, VALID)))
    init = functools.partial(Encoder(**sizes).init, train=False)
    drawn_encoder = drawn(jax.eval_shape(init, jax.random.key(0), *rest[1:]))
    variables = {"decoder": variables_of(Decoder(**sizes)), "encoder": drawn_encoder}

    def loss(variables, remat):
        def made(kind, name, *given):
            module, rngs = kind(**sizes, remat=remat), {"dropout": jax.random.key(1)}
            return module.apply(variables[name], *given, train=True, rngs=rngs)

        memory = made(Encoder, "encoder", *rest[1:])
        return (made(Decoder, "decoder", rest[0], memory, *rest[2:]) ** 2).mean()

    graded = jax.jit(jax.value_and_grad(loss), static_argnums=1)
    again = functools.partial(Encoder(**sizes, remat=True).init, train=False)
    assert jax.eval_shape(again, jax.random.key(0), *rest[1:]) == jax.eval_shape(init, jax.random.key(0), *rest[1:])
    compare = functools.partial(np.testing.assert_allclose, rtol=1e-6, atol=1e-6)
    jax.tree.map(compare, graded(variables, True), graded(variables, False))
