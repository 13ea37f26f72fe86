import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from quick import drawn

from vitjax.detection.encoder import Encoder

generator = np.random.default_rng(0)
TOKENS, POSITION, OTHER = (generator.normal(size=(2, 9, 8)).astype(np.float32) for _ in range(3))
VALID = np.arange(9) < np.array([[9], [5]])


def compiled(encoder):
    """The encoder with drawn variables, from (tokens, position) to memory."""
    init = functools.partial(encoder.init, train=False)
    variables = drawn(jax.eval_shape(init, jax.random.key(0), TOKENS, POSITION, VALID))
    return jax.jit(lambda tokens, position: encoder.apply(variables, tokens, position, jnp.asarray(VALID), train=False))


@pytest.mark.parametrize("pre_norm", [False, True], ids=["post norm", "pre norm"])
def test_what_stands_on_padding_does_not_change_what_stands_on_the_image(pre_norm):
    run = compiled(Encoder(layers=2, heads=2, feed_forward=16, pre_norm=pre_norm))
    changed = [np.where(VALID[..., None], x, OTHER) for x in (TOKENS, POSITION)]
    before, after = (np.asarray(run(*inputs))[VALID] for inputs in ((TOKENS, POSITION), changed))
    np.testing.assert_array_equal(after, before)
    assert not np.allclose(np.asarray(run(OTHER, POSITION))[VALID], before, atol=1e-2)


def test_equal_tokens_stay_equal_where_only_positions_differ():
    """Positions enter queries and keys, never values: mixtures of equal values are equal, whatever the weights."""
    run = compiled(Encoder(layers=1, heads=2, feed_forward=16))
    found = run(np.broadcast_to(TOKENS[:, :1], TOKENS.shape), POSITION)
    np.testing.assert_allclose(found, np.broadcast_to(found[:, :1], found.shape), atol=1e-5)
