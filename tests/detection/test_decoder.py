import functools

import jax
import numpy as np
import pytest
from quick import drawn

from vitjax.detection.decoder import Decoder

generator = np.random.default_rng(0)
QUERIES = generator.normal(size=(2, 4, 8)).astype(np.float32)
MEMORY, POSITION, OTHER = (generator.normal(size=(2, 9, 8)).astype(np.float32) for _ in range(3))
VALID = np.arange(9) < np.array([[9], [5]])


@functools.cache
def compiled(decoder):
    return jax.jit(functools.partial(decoder.apply, train=False))


def decode(variables, decoder, memory=MEMORY, position=POSITION, queries=QUERIES):
    return compiled(decoder)(variables, queries, memory, position, VALID)


def variables_of(decoder):
    init = functools.partial(decoder.init, train=False)
    return drawn(jax.eval_shape(init, jax.random.key(0), QUERIES, MEMORY, POSITION, VALID))


@pytest.mark.parametrize("pre_norm", [False, True], ids=["post norm", "pre norm"])
def test_memory_on_padding_is_not_seen(pre_norm):
    decoder = Decoder(layers=2, heads=2, feed_forward=16, pre_norm=pre_norm)
    variables = variables_of(decoder)
    before = decode(variables, decoder)
    changed = [np.where(VALID[..., None], x, OTHER) for x in (MEMORY, POSITION)]
    np.testing.assert_array_equal(decode(variables, decoder, *changed), before)
    assert not np.allclose(decode(variables, decoder, OTHER), before, atol=1e-2)


def test_positions_choose_what_is_looked_at_and_never_enter_what_is_seen():
    decoder = Decoder(layers=1, heads=2, feed_forward=16)
    variables = variables_of(decoder)
    uniform = np.broadcast_to(MEMORY[:, :1], MEMORY.shape)
    found = decode(variables, decoder, uniform, POSITION)
    np.testing.assert_allclose(decode(variables, decoder, uniform, OTHER), found, atol=1e-5)
    other = decode(variables, decoder, uniform, POSITION, queries=2 * QUERIES)
    np.testing.assert_allclose(other, found, atol=1e-5)  # the first layer's queries hold nothing but zeros
    assert not np.allclose(decode(variables, decoder, MEMORY, OTHER), decode(variables, decoder), atol=1e-2)


def test_all_layers_share_the_last_norm():
    decoder = Decoder(layers=2, heads=2, feed_forward=16)
    variables = variables_of(decoder)
    params = variables["params"] | {"norm": {"scale": np.zeros(8, np.float32), "bias": np.arange(8, dtype=np.float32)}}
    found = decode({"params": params}, decoder)
    np.testing.assert_array_equal(found, np.broadcast_to(params["norm"]["bias"], (2, 2, 4, 8)))
