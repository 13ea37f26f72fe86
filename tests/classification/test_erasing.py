import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vitjax.classification.erasing import Erasing
from vitjax.structs import Images

COUNT, HEIGHT, WIDTH = 400, 20, 24
PIXELS = np.random.default_rng(0).normal(5, 1, (COUNT, HEIGHT, WIDTH, 3)).astype(np.float32)
SMALL = np.arange(COUNT) % 2 == 0  # every other image is padded: 12 x 16 pixels of 20 x 24
VALID = np.ones((COUNT, HEIGHT, WIDTH), bool)
VALID[SMALL, 12:] = VALID[SMALL, :, 16:] = False


def erased(erasing, valid=VALID):
    """The pixels after erasing, and where they have changed."""
    images = Images(jnp.asarray(PIXELS * valid[..., None]), jnp.asarray(valid))
    out = jax.jit(erasing)(jax.random.key(0), images)
    assert (out.valid == valid).all()
    return np.asarray(out.pixels), np.asarray((out.pixels != images.pixels).any(-1))


@pytest.fixture(scope="module")
def half():
    return erased(Erasing(probability=0.5))


def test_about_as_many_images_are_erased_as_said(half):
    assert half[1].any((1, 2)).mean() == pytest.approx(0.5, abs=0.08)


def test_what_is_erased_is_one_rectangle_of_the_right_area_and_aspect(half):
    changed = half[1]
    rows, columns = changed.any(2), changed.any(1)
    assert (changed == rows[:, :, None] & columns[:, None]).all()
    assert (np.abs(np.diff(rows, axis=1)).sum(1) <= 2).all() and (np.abs(np.diff(columns, axis=1)).sum(1) <= 2).all()
    for small, size in ((True, (12, 16)), (False, (20, 24))):
        chosen = changed.any((1, 2)) & (SMALL == small)
        height, width = rows[chosen].sum(1), columns[chosen].sum(1)
        assert (height < size[0]).all() and (width < size[1]).all()
        # Sides are rounded, so each may be off by half a pixel.
        area = np.prod(size)
        assert ((height + 0.5) * (width + 0.5) >= 0.02 * area).all()
        assert ((height - 0.5) * (width - 0.5) <= area / 3).all()
        assert ((height + 0.5) / (width - 0.5) >= 0.3).all() and ((height - 0.5) / (width + 0.5) <= 10 / 3).all()
        shares = height * width / area
        assert shares.min() < 0.06 and shares.max() > 0.25 and shares.mean() == pytest.approx(0.17, abs=0.03)
        assert (height > width).any() and (height < width).any()


def test_rectangles_reach_every_edge_of_the_image_and_never_its_padding(half):
    assert not (half[1] & ~VALID).any() and (half[0][~VALID] == 0).all()
    for small, (bottom, right) in ((True, (11, 15)), (False, (19, 23))):
        changed = half[1][small == SMALL]
        assert all(edge.any() for edge in (changed[:, 0], changed[:, bottom], changed[:, :, 0], changed[:, :, right]))


def test_the_filling_is_normal_noise_of_its_own_in_every_channel(half):
    noise = half[0][half[1]]
    np.testing.assert_allclose(noise.mean(0), 0, atol=0.05)
    np.testing.assert_allclose(np.cov(noise.T), np.eye(3), atol=0.05)


def test_what_cannot_fit_stays_whole():
    pixels, changed = erased(Erasing(probability=1.0, area=(1.0, 1.0), aspect=(1.0, 1.0)))
    assert not changed.any() and (pixels == PIXELS * VALID[..., None]).all()


def test_probability_zero_gives_back_the_very_images():
    images = Images(jnp.asarray(PIXELS), jnp.asarray(VALID))
    assert Erasing(probability=0.0)(jax.random.key(0), images) is images


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"probability": -0.5}, r"probability is a share.* got -0\.5"),
        ({"area": (0.5, 0.1)}, r"area is two shares.* got \(0\.5, 0\.1\)"),
        ({"aspect": (0.0, 2.0)}, r"aspect is two ratios.* got \(0\.0, 2\.0\)"),
    ],
)
def test_senseless_numbers_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Erasing(**fields)
