import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vitjax.detection.deformable_encoder import Memory
from vitjax.detection.proposals import Proposals, anchors_of
from vitjax.ops.padded_maps import valid_ratio


def anchors(sizes, shapes):
    """Anchors and their soundness, for one image with so many valid (rows, columns) on maps of these shapes."""
    ratios = []
    for (rows, columns), (height, width) in zip(sizes, shapes, strict=True):
        valid = (np.arange(height) < rows)[:, None] & (np.arange(width) < columns)
        ratios.append(valid_ratio(jnp.asarray(valid)[None]))
    boxes, sound = jax.jit(functools.partial(anchors_of, shapes=shapes))(jnp.stack(ratios, axis=1))
    return np.asarray(boxes[0]), np.asarray(sound[0])


def test_every_cell_has_a_square_around_its_centre_twice_as_large_on_the_next_level():
    boxes, sound = anchors([(2, 4), (1, 2)], ((2, 4), (1, 2)))
    wanted = [(x / 8, y / 4, 0.05, 0.05) for y in (1, 3) for x in (1, 3, 5, 7)] + [(0.25, 0.5, 0.1, 0.1)]
    np.testing.assert_allclose(boxes[:9], wanted, atol=1e-6)
    assert sound.all()


def test_anchors_are_in_units_of_the_unpadded_image_and_on_padding_none_is_sound():
    boxes, sound = anchors([(2, 4)], ((3, 7),))
    alone, _ = anchors([(2, 4)], ((2, 4),))
    np.testing.assert_allclose(boxes.reshape(3, 7, 4)[:2, :4], alone.reshape(2, 4, 4), atol=1e-6)
    np.testing.assert_array_equal(sound.reshape(3, 7), np.outer([1, 1, 0], [1, 1, 1, 1, 0, 0, 0]).astype(bool))


@pytest.mark.parametrize("padding", [0, 1, 7, 14])
def test_tokens_on_the_limit_are_unsound_whatever_the_padding(padding):
    _, sound = anchors([(3, 50)], ((3, 50 + padding),))
    row = sound.reshape(3, -1)[1]
    assert row[1:49].all() and not row[0] and not row[49:].any()


def test_a_level_whose_squares_are_larger_than_the_image_has_no_sound_anchor():
    _, sound = anchors([(1, 1)] * 6, ((1, 1),) * 6)
    np.testing.assert_array_equal(sound, [True, True, True, True, True, False])


def test_layers_of_proposals_start_as_published():
    """Xavier kernels, and torch's biases, which the published code leaves as they are."""
    shapes, channels = ((4, 4), (2, 2)), 64

    class Both(nn.Module):
        @nn.compact
        def __call__(self, memory, valid, ratios):
            heads = nn.Dense(3), nn.Dense(4)
            return Proposals(5, name="proposals")(Memory(memory, valid, ratios, shapes), *heads, None)

    inputs = jnp.zeros((1, 20, channels)), jnp.ones((1, 20), bool), jnp.ones((1, 2, 2))
    params = Both().init(jax.random.key(0), *inputs)["params"]["proposals"]
    for name, fan_in in (("projection", channels), ("query_projection", 2 * channels)):
        bias = np.abs(params[name]["bias"])
        assert 0.8 / np.sqrt(fan_in) < bias.max() <= 1 / np.sqrt(fan_in)
