import jax
import jax.numpy as jnp
import numpy as np
import pytest
from quick import drawn

from vitjax.detection.decoder import Decoder

generator = np.random.default_rng(0)
QUERIES = jnp.asarray(generator.normal(size=(2, 4, 8)), jnp.float32)
MEMORY, POSITION, OTHER = (jnp.asarray(generator.normal(size=(2, 9, 8)), jnp.float32) for _ in range(3))
VALID = jnp.arange(9) < jnp.array([[9], [5]])


def decode(variables, decoder, memory=MEMORY, position=POSITION, queries=QUERIES):
    return jax.jit(lambda *inputs: decoder.apply(variables, *inputs, VALID, train=False))(queries, memory, position)


def variables_of(decoder):
    arguments = (QUERIES, MEMORY, POSITION, VALID)
    return drawn(jax.eval_shape(lambda: decoder.init(jax.random.key(0), *arguments, train=False)))


@pytest.mark.parametrize("pre_norm", [False, True], ids=["post norm", "pre norm"])
def test_memory_on_padding_is_not_seen(pre_norm):
    decoder = Decoder(layers=2, heads=2, feed_forward=16, pre_norm=pre_norm)
    variables = variables_of(decoder)
    before = decode(variables, decoder)
    changed = [jnp.where(VALID[..., None], x, OTHER) for x in (MEMORY, POSITION)]
    np.testing.assert_array_equal(decode(variables, decoder, *changed), before)
    assert not np.allclose(decode(variables, decoder, OTHER), before, atol=1e-2)


def test_positions_choose_what_is_looked_at_and_never_enter_what_is_seen():
    decoder = Decoder(layers=1, heads=2, feed_forward=16)
    variables = variables_of(decoder)
    uniform = jnp.broadcast_to(MEMORY[:, :1], MEMORY.shape)
    found = decode(variables, decoder, uniform, POSITION)
    np.testing.assert_allclose(decode(variables, decoder, uniform, OTHER), found, atol=1e-5)
    other = decode(variables, decoder, uniform, POSITION, queries=2 * QUERIES)
    np.testing.assert_allclose(other, found, atol=1e-5)  # the first layer's queries hold nothing but zeros
    assert not np.allclose(decode(variables, decoder, MEMORY, OTHER), decode(variables, decoder), atol=1e-2)


def test_all_layers_share_the_last_norm():
    decoder = Decoder(layers=2, heads=2, feed_forward=16)
    variables = variables_of(decoder)
    params = variables["params"] | {"norm": {"scale": jnp.zeros(8), "bias": jnp.arange(8.0)}}
    found = decode({"params": params}, decoder)
    np.testing.assert_array_equal(found, np.broadcast_to(np.arange(8.0), (2, 2, 4, 8)))
