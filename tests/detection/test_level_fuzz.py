"""Levels of any small shapes, also of one pixel or one row, are tokens in a row and maps again, by plain loops."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitjax.detection.deformable_encoder import token_places
from vitjax.detection.levels import encode, pyramid
from vitjax.structs import Feature, Images

BATCH, CHANNELS = 2, 4
SIDE = st.integers(1, 7)
THIN = [((1, 1),), ((1, 7), (1, 4), (1, 1)), ((6, 1), (1, 1)), ((5, 7), (1, 3), (4, 1), (1, 1))]


class Maps:
    """A backbone whose maps are given."""

    def __init__(self, features):
        self._features = features

    def __call__(self, images, *, padding, train):
        return self._features


class Levels(nn.Module):
    """What a detector on several levels has, without layers: its memory is the levels themselves."""

    backbone: Any
    levels: int
    backbone_levels: int
    flat: bool
    channels: int = CHANNELS
    heads: int = 1
    encoder_layers: int = 0
    feed_forward: int = 4
    dropout: float = 0.0
    encoder_points: int = 1
    padding: str = "exact"
    remat: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images):
        return encode(self, images, train=False) if self.flat else pyramid(self, images, train=False)


def features_of(shapes, seed):
    """Maps of noise, of which a part at the top left is valid."""
    random = np.random.default_rng(seed)
    features = []
    for height, width in shapes:
        ends = [(random.integers(1, height + 1), random.integers(1, width + 1)) for _ in range(BATCH)]
        valid = np.array(
            [[[r < bottom and c < right for c in range(width)] for r in range(height)] for bottom, right in ends]
        )
        values = random.normal(size=(BATCH, height, width, 3)).astype(np.float32) * valid[..., None]
        features.append(Feature(jnp.asarray(values), jnp.asarray(valid)))
    return tuple(features)


def computed(features, more):
    """The tokens, their validity, the ratios, the coarsest map before and after, all maps, places; and the shapes."""
    images = Images(jnp.zeros((BATCH, 8, 8, 3)), jnp.ones((BATCH, 8, 8), bool))
    count, shapes = len(features), []

    def run(features):
        def model(flat):
            return Levels(Maps(features), count + more, count, flat)

        variables = model(True).init(jax.random.key(0), images)
        encoded, maps = model(True).apply(variables, images), model(False).apply(variables, images)[1]
        memory = encoded.memory
        shapes.append(memory.shapes)
        flat = (memory.tokens, memory.valid, memory.ratios, encoded.projected, encoded.coarsest)
        return *flat, [(each.values, each.valid) for each in maps], token_places(memory.ratios, memory.shapes)

    return *jax.device_get(jax.jit(run)(features)), shapes[0]


def are_tokens_the_maps(shapes, more, seed):
    """Whether tokens, validity, ratios and places of all levels are those of the maps, pixel by pixel."""
    tokens, valid, ratios, before, after, maps, places, found = computed(features_of(shapes, seed), more)
    wanted = list(shapes)
    for _ in range(more):
        wanted.append(tuple(-(-side // 2) for side in wanted[-1]))
    assert found == tuple(wanted) and [there.shape[1:] for _, there in maps] == wanted
    token = 0
    for level, (values, there) in enumerate(maps):
        sides = wanted[level]
        ratio = np.stack([there[:, 0].mean(1), there[:, :, 0].mean(1)], -1)
        np.testing.assert_allclose(ratios[:, level], ratio, rtol=1e-6)
        for row, column in np.ndindex(*sides):
            np.testing.assert_allclose(tokens[:, token], values[:, row, column], rtol=0, atol=1e-5)  # summed apart
            assert np.array_equal(valid[:, token], there[:, row, column])
            centre = np.array([(column + 0.5) / sides[1], (row + 0.5) / sides[0]])
            np.testing.assert_allclose(places[:, token], centre / ratio, rtol=1e-5)
            token += 1
    assert token == tokens.shape[1]
    last = maps[len(shapes) - 1][0]
    assert np.array_equal(before, last) and np.array_equal(after, last)
    return True


def test_levels_are_tokens_in_a_row_and_maps_again():
    assert are_tokens_the_maps(THIN[1], 1, 0)


@pytest.mark.long
@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(SIDE, SIDE), min_size=1, max_size=4).map(tuple) | st.sampled_from(THIN),
    st.integers(0, 2),
    st.integers(0, 2**32 - 1),
)
def test_levels_of_many_shapes_are_tokens_in_a_row_and_maps_again(shapes, more, seed):
    assert are_tokens_the_maps(shapes, more, seed)
