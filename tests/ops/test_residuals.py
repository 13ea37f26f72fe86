import itertools

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from vitjax.ops.residuals import after, bits_at, dropped, hashed_bits, product_of_made, scale_of_others

KEYS = [jax.random.fold_in(jax.random.key(seed), layer) for seed, layer in itertools.product(range(2), range(6))]
SHAPE = (64, 1024)
BITS = np.stack([np.asarray(jax.jit(hashed_bits, static_argnums=1)(key, SHAPE)) for key in KEYS])
SIGMA = 0.5 / np.sqrt(BITS[0].size)  # of the mean of so many bits


def ones(bits):
    return np.unpackbits(np.ascontiguousarray(bits).view(np.uint8)).reshape(-1, 32)


def test_every_bit_is_as_often_one_as_zero():
    for bits in BITS:
        assert np.abs(ones(bits).mean(0) - 0.5).max() < 5 * SIGMA


def test_neither_neighbours_nor_rows_nor_keys_agree_more_than_by_chance():
    pairs = [(bits[:, 1:], bits[:, :-1]) for bits in BITS]
    pairs += [(bits[1:], bits[:-1]) for bits in BITS]
    pairs += list(itertools.combinations(BITS, 2))
    for one, other in pairs:
        assert np.abs(ones(one ^ other).mean(0) - 0.5).max() < 6 * SIGMA


def test_numbers_fill_their_range_evenly():
    for bits in BITS:
        counts = np.bincount((bits >> 24).ravel(), minlength=256)
        expected = bits.size / 256
        assert ((counts - expected) ** 2 / expected).sum() < 255 + 6 * np.sqrt(2 * 255)


def test_a_place_has_its_bits_whatever_the_shape_and_however_it_is_divided():
    key = KEYS[0]
    np.testing.assert_array_equal(hashed_bits(key, (65536,)), BITS[0].ravel())
    placed = NamedSharding(Mesh(jax.devices()[:2], "d"), PartitionSpec("d"))
    divided = jax.jit(lambda x: x + hashed_bits(key, SHAPE), out_shardings=placed)
    np.testing.assert_array_equal(divided(jax.device_put(jnp.zeros(SHAPE, jnp.uint32), placed)), BITS[0])
    assert hashed_bits(key, (3, 0)).shape == (3, 0) and hashed_bits(key, ()).shape == ()


def test_keys_of_other_generators_do_too():
    assert len(np.unique(hashed_bits(jax.random.key(0, impl="rbg"), (1000,)))) > 990


def test_what_comes_after_is_what_it_was():
    x, other = jnp.array([1.5, -0.0, np.inf], jnp.bfloat16), jnp.array([[np.nan, 2.0]])
    np.testing.assert_array_equal(after(x, other), x)
    np.testing.assert_array_equal(after(x, -np.inf * other[:, 1:]), x)
    np.testing.assert_array_equal(after(x, other[:, :0]), x)
    assert after(x, other).dtype == x.dtype


def test_some_places_have_the_bits_of_all():
    words, places = jax.random.key_data(KEYS[3]), jnp.array([[5, 0], [65_535, 1_024]], jnp.uint32)
    np.testing.assert_array_equal(bits_at(places, words[0], words[1]), BITS[3].ravel()[places])


def test_as_many_numbers_are_dropped_as_the_rate_says():
    for rate in (1e-12, 0.1, 0.5, 1.0):
        left_out = np.asarray(dropped(jnp.asarray(BITS[0]), rate))
        assert abs(left_out.mean() - rate) < 6 * SIGMA
        assert rate == 1.0 or np.isclose(scale_of_others(rate), 1 / (1 - rate))


def made(key, x):
    return jnp.where(dropped(hashed_bits(key, x.shape), 0.3), 0, jnp.sin(x))


def test_a_product_of_what_is_made_has_its_gradients_and_keeps_only_what_it_is_made_of():
    random = np.random.default_rng(0)
    x, y = (jnp.asarray(random.normal(size=shape), jnp.float32) for shape in ((50, 30), (30, 20)))

    def again(x, y):
        return product_of_made(jnp.matmul, made, KEYS[0], x, y)

    def plain(x, y):
        return made(KEYS[0], x) @ y

    (out, back), (wanted, wanted_back) = (jax.vjp(jax.jit(part), x, y) for part in (again, plain))
    np.testing.assert_allclose(out, wanted, rtol=1e-6)
    for one, other in zip(back(jnp.cos(out)), wanted_back(jnp.cos(out)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)
    kept, of_the_plain = (sum(leaf.size for leaf in jax.tree.leaves(way) if leaf.ndim) for way in (back, wanted_back))
    assert kept == x.size + y.size < of_the_plain
