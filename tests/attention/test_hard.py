import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vitjax.attention.hard import CellPolicy, GlimpseSensor, LocationPolicy, overview
from vitjax.ops.policy_gradient import gaussian_log_prob, reinforce
from vitjax.structs import Images

PIXELS = np.random.default_rng(0).normal(size=(2, 20, 24, 3)).astype(np.float32)
WHOLE = Images(jnp.asarray(PIXELS), jnp.ones((2, 20, 24), bool))
CENTRES = np.array([[10, 9], [14, 11]])  # x and y in pixels
LOCATIONS = jnp.asarray(CENTRES / [24, 20], jnp.float32)
SENSOR = GlimpseSensor(size=4, scales=3)


@functools.partial(jax.jit, static_argnums=1, static_argnames=("cells", "method", "sample"))
def at(variables, module, *inputs, **options):
    return module.apply(variables, *inputs, **options)


def test_at_integral_places_a_glimpse_is_a_slice_and_the_coarser_ones_are_means():
    seen = at({}, SENSOR, WHOLE, LOCATIONS)
    assert seen.shape == (2, 4, 4, 9)
    for image, (x, y), patches in zip(PIXELS, CENTRES, seen, strict=True):
        for scale in range(3):
            half, step = 2 * 2**scale, 2**scale
            wanted = image[y - half : y + half, x - half : x + half]
            wanted = wanted.reshape(4, step, 4, step, 3).mean((1, 3))
            np.testing.assert_allclose(patches[..., 3 * scale : 3 * scale + 3], wanted, atol=2e-5)


def test_outside_the_image_a_glimpse_shows_its_edge():
    seen = at({}, SENSOR, WHOLE, jnp.array([[0.0, 0.0], [1.0, 0.5]]))
    np.testing.assert_allclose(seen[0, :3, :3, :3], np.broadcast_to(PIXELS[0, 0, 0], (3, 3, 3)), atol=2e-6)
    np.testing.assert_allclose(seen[1, :, 2:, :3], np.repeat(PIXELS[1, 8:12, -1:], 2, 1), atol=2e-6)


def test_a_padded_image_is_seen_as_it_is_alone():
    padded = jnp.pad(WHOLE.pixels, ((0, 0), (0, 5), (0, 7), (0, 0)))
    framed = Images(padded, jnp.zeros((2, 25, 31), bool).at[:, :20, :24].set(True))
    for place in (LOCATIONS, jnp.array([[0.97, 0.9], [0.03, 0.99]])):
        np.testing.assert_allclose(at({}, SENSOR, framed, place), at({}, SENSOR, WHOLE, place), atol=1e-5)


def test_what_cells_show_is_what_glimpses_at_their_centres_show():
    cells = at({}, SENSOR, WHOLE, cells=3, method="of_cells")
    row, column = np.divmod(np.arange(9), 3)
    places = jnp.asarray(np.stack([(column + 0.5) / 3, (row + 0.5) / 3], -1), jnp.float32)
    for image in range(2):
        nine = Images(jnp.tile(WHOLE.pixels[image], (9, 1, 1, 1)), jnp.ones((9, 20, 24), bool))
        np.testing.assert_allclose(cells[image], at({}, SENSOR, nine, places), atol=1e-5)


def test_the_overview_is_the_mean_of_every_part():
    square = Images(WHOLE.pixels[:, :, :20], WHOLE.valid[:, :, :20])
    wanted = PIXELS[:, :, :20].reshape(2, 5, 4, 5, 4, 3).mean((2, 4))
    np.testing.assert_allclose(overview(square, 5), wanted, atol=2e-6)


def test_gradients_reach_pixels_and_locations():
    def total(pixels, locations):
        return (SENSOR.apply({}, Images(pixels, WHOLE.valid), locations) ** 2).sum()

    by_pixel, by_place = jax.jit(jax.grad(total, argnums=(0, 1)))(WHOLE.pixels, LOCATIONS + 0.013)
    assert np.isfinite(by_pixel).all() and np.abs(by_pixel).max() > 0
    assert np.isfinite(by_place).all() and np.all(by_place != 0)


def test_a_location_is_the_mean_or_drawn_around_it_with_its_probability():
    policy, state = LocationPolicy(deviation=0.05), jnp.ones((4000, 3))
    variables = {"params": {"mean": {"kernel": jnp.zeros((3, 2)), "bias": jnp.array([0.5, -0.2])}}}
    mean = (1 + np.tanh([0.5, -0.2])) / 2
    still = at(variables, policy, state, sample=False)
    np.testing.assert_allclose(still.locations[0], mean, rtol=1e-6)
    drawn = at(variables, policy, state, sample=True, rngs={"dropout": jax.random.key(0)})
    np.testing.assert_allclose(drawn.locations.std(0), 0.05, rtol=0.05)
    np.testing.assert_allclose(drawn.locations.mean(0), mean, atol=0.004)
    wanted = gaussian_log_prob(drawn.locations, jnp.asarray(mean, jnp.float32)[None], 0.05)
    np.testing.assert_allclose(drawn.log_probs, wanted, rtol=1e-4, atol=1e-4)
    far = at(variables, LocationPolicy(deviation=2.0), state, sample=True, rngs={"dropout": jax.random.key(0)})
    assert far.locations.min() == 0 and far.locations.max() == 1 and np.isfinite(far.log_probs).all()


def test_a_few_steps_move_the_policy_to_the_place_that_is_rewarded():
    policy, state, target = LocationPolicy(deviation=0.1), jnp.ones((64, 3)), jnp.array([0.8, 0.3])
    params = policy.init(jax.random.key(0), state, sample=False)
    optimizer = optax.adam(0.05)

    def loss(params, key):
        choice = policy.apply(params, state, sample=True, rngs={"dropout": key})
        rewards = -((choice.locations - target) ** 2).sum(-1)
        return -reinforce(choice.log_probs, rewards, rewards.mean()).mean()

    @jax.jit
    def trained(params):
        def step(carried, key):
            params, state = carried
            updates, state = optimizer.update(jax.grad(loss)(params, key), state)
            return (optax.apply_updates(params, updates), state), None

        return jax.lax.scan(step, (params, optimizer.init(params)), jax.random.split(jax.random.key(1), 60))[0][0]

    place = policy.apply(trained(params), state, sample=False).locations[0]
    np.testing.assert_allclose(place, target, atol=0.08)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16], ids=["float32", "bfloat16"])
def test_a_cell_is_the_likeliest_or_drawn_with_gradients_through_the_choice(dtype):
    policy, state, seen = CellPolicy(), jnp.ones((2, 3), dtype), jnp.asarray(PIXELS[:, :3, :4], dtype)
    variables = jax.jit(functools.partial(policy.init, sample=False))(jax.random.key(0), state, seen)
    still = at(variables, policy, state, seen, sample=False)
    row, column = np.divmod(still.cells.argmax(-1), 4)
    np.testing.assert_allclose(still.locations, np.stack([(column + 0.5) / 4, (row + 0.5) / 3], -1), rtol=1e-6)
    assert np.all(still.log_probs >= -np.log(12))

    @jax.jit
    def worth(variables):
        choice = policy.apply(variables, state, seen, sample=True, rngs={"dropout": jax.random.key(3)})
        return (choice.cells * jnp.arange(12)).sum(), choice

    gradient, choice = jax.grad(worth, has_aux=True)(variables)
    assert set(np.unique(choice.cells)) == {0, 1} and choice.locations.dtype == jnp.float32
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
    assert np.abs(gradient["params"]["visit"]["bias"]).max() > 0
