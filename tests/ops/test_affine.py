import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vitjax.ops.affine import affine_grid, sample

IDENTITY = np.eye(2, 3, dtype=np.float32)[None]
GENERAL = np.array([[[0.7, -0.4, 0.15], [0.3, 0.9, -0.2]]], np.float32)
CONVENTIONS = ["corners", "edges", "open"]


def picture(height, width, batch=1):
    return jnp.asarray(np.random.default_rng(height).normal(size=(batch, height, width, 2)).astype(np.float32))


@functools.partial(jax.jit, static_argnames=("size", "convention"))
def warped(image, theta, size=None, **options):
    grid = affine_grid(theta, size or image.shape[1:3], **options)
    return sample(image, grid, **options)


def pixel(image, y, x):
    """A bilinear sample, corner by corner."""
    total = np.zeros(image.shape[-1])
    top, left = int(np.floor(y)), int(np.floor(x))
    for row, column in itertools.product((top, top + 1), (left, left + 1)):
        if 0 <= row < image.shape[0] and 0 <= column < image.shape[1]:
            total += (1 - abs(y - row)) * (1 - abs(x - column)) * image[row, column]
    return total


def written_out(image, theta, size, convention):
    """What each pixel of the new image reads, in float64."""
    out = np.zeros((*size, image.shape[-1]))
    for place in np.ndindex(size):
        seen = [
            {"corners": 2 * i / (n - 1) - 1, "edges": (2 * i + 1) / n - 1, "open": 2 * i / n - 1}[convention]
            for i, n in zip(place, size, strict=True)
        ]
        x, y = np.float64(theta) @ [seen[1], seen[0], 1]
        sides = image.shape[:2]
        edges = convention == "edges"
        y, x = (((g + 1) * n - 1) / 2 if edges else (g + 1) * (n - 1) / 2 for g, n in zip((y, x), sides, strict=True))
        out[place] = pixel(np.float64(image), y, x)
    return out


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_every_pixel_reads_where_the_map_says_and_nothing_outside(convention):
    image = picture(6, 5)
    found = warped(image, GENERAL, (4, 7), convention=convention)
    np.testing.assert_allclose(found[0], written_out(image[0], GENERAL[0], (4, 7), convention), atol=1e-5)


@pytest.mark.parametrize("convention", ["corners", "edges"])
@pytest.mark.parametrize("size", [(7, 5), (41, 1)], ids=str)
def test_the_identity_returns_the_image(size, convention):
    np.testing.assert_allclose(warped(picture(*size), IDENTITY, convention=convention), picture(*size), atol=1e-5)


def test_the_open_identity_reads_pixel_i_at_i_times_one_less_than_all_over_all():
    ramp = jnp.arange(8, dtype=jnp.float32)[None, :, None, None] * jnp.ones((1, 8, 6, 1))
    found = warped(ramp, IDENTITY, convention="open")
    np.testing.assert_allclose(found[0, :, 0, 0], np.arange(8) * 7 / 8, atol=1e-5)


@pytest.mark.parametrize("convention", ["corners", "edges"])
@pytest.mark.parametrize("side", [6, 7])
def test_a_quarter_turn_is_rot90(side, convention):
    """A new pixel at (x, y) reads at (-y, x): what was on the right, x = 1, comes to the top, y = -1."""
    image, turn = picture(side, side), np.array([[[0, -1, 0], [1, 0, 0]]], np.float32)
    found = warped(image, turn, convention=convention)
    np.testing.assert_allclose(found, np.rot90(image, axes=(1, 2)), atol=1e-5)


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_a_padded_image_reads_what_it_reads_alone(convention):
    sizes, image = np.array([[6, 5], [3, 4]]), np.zeros((2, 6, 7, 2), np.float32)
    for i, (height, width) in enumerate(sizes):
        image[i, :height, :width] = picture(height, width)
    theta = np.concatenate([GENERAL, GENERAL])
    found = warped(image, theta, convention=convention, extents=jnp.asarray(sizes))
    for i, (height, width) in enumerate(sizes):
        alone = warped(picture(height, width), GENERAL, convention=convention)
        np.testing.assert_allclose(found[i, :height, :width], alone[0], atol=1e-5)


def test_gradients_to_theta_and_image_are_those_of_finite_differences():
    """In float64, where no sample lies near the centre of a pixel, at which bilinear reading has a kink."""
    with jax.enable_x64(True):
        image, theta = jnp.asarray(picture(5, 6), float), jnp.asarray(GENERAL * np.sqrt(0.99), float)
        cotangent = np.random.default_rng(1).normal(size=image.shape)
        energy = jax.jit(lambda image, theta: (warped(image, theta) * cotangent).sum())
        by_image, by_theta = jax.jit(jax.grad(energy, argnums=(0, 1)))(image, theta)
        directions = np.random.default_rng(2).normal(size=image.shape), np.random.default_rng(3).normal(size=(1, 2, 3))
        for which, (gradient, direction) in enumerate(zip((by_image, by_theta), directions, strict=True)):
            step = [1e-7 * direction if which == i else 0 for i in range(2)]
            ahead, back = energy(image + step[0], theta + step[1]), energy(image - step[0], theta - step[1])
            np.testing.assert_allclose((ahead - back) / 2e-7, (gradient * direction).sum(), rtol=1e-6)


@pytest.mark.parametrize("side", [14, 41])
def test_on_a_pixels_centre_the_slope_is_that_of_the_cell_on_its_right(side):
    """As in the published samplers; rounding would else hand the first column to the cell outside the image."""
    ramp = jnp.arange(side, dtype=jnp.float32)[None, None, :, None] ** 2 * jnp.ones((1, 2, 1, 1))
    grid = affine_grid(jnp.asarray(IDENTITY), (2, side))
    first = jax.jit(jax.grad(lambda grid: sample(ramp, grid)[0, 0, 0, 0]))(grid)
    np.testing.assert_allclose(first[0, 0, 0, 0], (side - 1) / 2, rtol=1e-5)
