import jax
import jax.numpy as jnp
import numpy as np
import pytest
from quick import drawn

from vitjax.detection.encoder import Encoder

generator = np.random.default_rng(0)
TOKENS, POSITION, OTHER = (jnp.asarray(generator.normal(size=(2, 9, 8)), jnp.float32) for _ in range(3))
VALID = jnp.arange(9) < jnp.array([[9], [5]])


@pytest.mark.parametrize("pre_norm", [False, True], ids=["post norm", "pre norm"])
def test_what_stands_on_padding_does_not_change_what_stands_on_the_image(pre_norm):
    encoder = Encoder(layers=2, heads=2, feed_forward=16, pre_norm=pre_norm)
    variables = drawn(jax.eval_shape(lambda: encoder.init(jax.random.key(0), TOKENS, POSITION, VALID, train=False)))
    run = jax.jit(lambda tokens, position: encoder.apply(variables, tokens, position, VALID, train=False))
    changed = [jnp.where(VALID[..., None], x, OTHER) for x in (TOKENS, POSITION)]
    before, after = (np.asarray(run(*inputs))[VALID] for inputs in ((TOKENS, POSITION), changed))
    np.testing.assert_array_equal(after, before)
    assert not np.allclose(run(OTHER, POSITION)[VALID], before, atol=1e-2)


def test_equal_tokens_stay_equal_where_only_positions_differ():
    """Positions enter queries and keys, never values: mixtures of equal values are equal, whatever the weights."""
    encoder = Encoder(layers=1, heads=2, feed_forward=16)
    tokens = jnp.broadcast_to(TOKENS[:, :1], TOKENS.shape)
    variables = drawn(jax.eval_shape(lambda: encoder.init(jax.random.key(0), tokens, POSITION, VALID, train=False)))
    found = jax.jit(lambda position: encoder.apply(variables, tokens, position, VALID, train=False))(POSITION)
    np.testing.assert_allclose(found, np.broadcast_to(found[:, :1], found.shape), atol=1e-5)
