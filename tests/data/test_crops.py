"""The crops of classification against Pillow, torchvision's numbers, and the rules written out plainly."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vitjax.data import rand_augment
from vitjax.data.augmentation_parts import ColorJitter
from vitjax.data.crops import CenterCrop, RandomCrop
from vitjax.data.rand_augment import RandAugment

SIDES = st.integers(1, 120)
PLAIN = RandAugment(operations=0)

# Made once with torchvision 0.28.0 and Pillow 13.0.0: CenterCrop(4)(Resize(5, BICUBIC)(...)) of `checked_picture()`,
# the blue channel.
TORCHVISION = [[175, 172, 107, 88], [132, 103, 151, 176], [127, 181, 142, 111], [98, 77, 154, 114]]


def checked_picture():
    """7x11 pixels: two ramps, and a pattern that is no ramp."""
    y, x = np.mgrid[:7, :11]
    return np.stack([23 * x, 36 * y, (40 * x + 90 * y) % 256], -1).astype(np.uint8)


def noise(height, width):
    return np.random.default_rng(height * 701 + width).integers(0, 256, (height, width, 3), dtype=np.uint8)


def bicubic(image, height, width):
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))


def places(crop, height, width, count=400):
    """Where random crops lie, read off from ramps: top, left, height, width, mirrored."""
    y, x = np.mgrid[:height, :width]
    ramps, rng = np.stack([x, y, 0 * x], -1).astype(np.uint8), np.random.default_rng(0)
    squares = np.stack([crop(ramps, rng) for _ in range(count)]).astype(float)
    low, high = crop.size // 8, crop.size - crop.size // 8 - 1  # a ramp stays one, but for its ends
    across, down = (squares[:, low : high + 1, low : high + 1, channel].mean(1 + channel) for channel in (0, 1))
    wide, tall = ((ramp[:, -1] - ramp[:, 0]) / (high - low) * crop.size for ramp in (across, down))
    middles = ((ramp[:, 0] + ramp[:, -1]) / 2 + 0.5 for ramp in (across, down))
    (centre_x, centre_y), mirrored = middles, wide < 0
    return centre_y - tall / 2, centre_x - abs(wide) / 2, tall, abs(wide), mirrored


@settings(deadline=None, max_examples=60)
@given(SIDES, SIDES, st.integers(0, 2**31))
def test_a_random_crop_takes_an_image_of_any_size(height, width, seed):
    square = RandomCrop(size=9)(noise(height, width), np.random.default_rng(seed))
    assert square.shape == (9, 9, 3) and square.dtype == np.uint8


@settings(deadline=None, max_examples=20)
@given(SIDES, st.integers(1, 80))
def test_all_of_a_square_image_is_just_resized(side, size):
    crop = RandomCrop(size, area=(1.0, 1.0), aspect=(1.0, 1.0), flip=0.0, rand_augment=PLAIN)
    image = noise(side, side)
    assert np.array_equal(crop(image, np.random.default_rng(side)), bicubic(image, size, size))


@pytest.mark.parametrize(
    ("height", "width", "cut"),
    [
        (10, 100, np.s_[:, 43:56]),  # at most 4/3 times as wide as high
        (101, 10, np.s_[44:57, :]),  # at least 3/4 times
        (1, 1, np.s_[:, :]),
        (1, 50, np.s_[:, 24:25]),
    ],
)
def test_an_image_that_no_crop_fits_gives_its_middle(height, width, cut):
    crop = RandomCrop(12, area=(1.0, 1.0), flip=0.0, rand_augment=PLAIN)
    image = noise(height, width)
    assert np.array_equal(crop(image, np.random.default_rng(0)), bicubic(image[cut], 12, 12))


def test_an_aspect_that_no_tiny_image_has_still_leaves_a_pixel():
    for aspect in [(5.0, 6.0), (0.1, 0.2)]:
        square = RandomCrop(3, aspect=aspect, rand_augment=PLAIN)(noise(1, 1), np.random.default_rng(0))
        assert (square == noise(1, 1)).all()


@pytest.mark.parametrize("shape", [(1, 2), (2, 1)])
def test_a_crop_of_a_tiny_image_is_never_empty(shape):
    image, crop, rng = noise(*shape), RandomCrop(1, area=(0.1, 0.2), rand_augment=PLAIN), np.random.default_rng(0)
    for _ in range(200):
        assert (crop(image, rng) == image.reshape(2, 3)).all(-1).any()


def test_random_crops_have_the_areas_and_aspects_that_are_asked_for():
    top, left, height, width, _ = places(RandomCrop(size=64, rand_augment=PLAIN), 240, 250)
    area, aspect = height * width / (240 * 250), np.log(width / height) / math.log(4 / 3)
    assert 0.07 < area.min() < 0.12 and 0.9 < area.max() < 1.03
    assert -1.1 < aspect.min() < -0.9 and 0.9 < aspect.max() < 1.1
    assert abs(aspect.mean()) < 0.1 and abs(np.mean(abs(aspect) < 0.5) - 0.5) < 0.1
    assert top.min() > -2 and left.min() > -2 and (top + height).max() < 242 and (left + width).max() < 252


def test_random_crops_have_an_aspect_of_width_over_height():
    _, _, height, width, _ = places(RandomCrop(size=64, aspect=(1.5, 2.0), area=(0.1, 0.3), rand_augment=PLAIN), 80, 99)
    assert 1.35 < (width / height).min() < (width / height).max() < 2.2


def test_random_crops_reach_every_place_alike():
    crop = RandomCrop(3, area=(9 / 30, 9 / 30), aspect=(1.0, 1.0), flip=0.0, rand_augment=PLAIN)
    image, rng = noise(5, 6), np.random.default_rng(0)
    squares, counts = np.unique([crop(image, rng) for _ in range(2000)], axis=0, return_counts=True)
    expected = [image[top : top + 3, left : left + 3] for top in range(3) for left in range(4)]
    assert {square.tobytes() for square in squares} == {square.tobytes() for square in expected}
    assert counts == pytest.approx(np.full(12, 2000 / 12), rel=0.3)


@pytest.mark.parametrize(("flip", "low", "high"), [(0.0, 0.0, 0.0), (0.5, 0.42, 0.58), (1.0, 1.0, 1.0)])
def test_mirror_images_are_as_frequent_as_asked(flip, low, high):
    mirrored = places(RandomCrop(size=16, flip=flip, rand_augment=PLAIN), 60, 80)[-1]
    assert low <= mirrored.mean() <= high


def test_the_same_generator_gives_the_same_crop_again():
    image = noise(50, 40)
    first, again = ([RandomCrop(8)(image, np.random.default_rng(seed)) for seed in range(20)] for _ in range(2))
    assert all(map(np.array_equal, first, again)) and len({square.tobytes() for square in first}) > 15


def test_upside_down_turns_and_colours_are_added_to_the_same_crops():
    image, plain = noise(30, 30), {"size": 30, "area": (1.0, 1.0), "aspect": (1.0, 1.0), "rand_augment": PLAIN}
    crop = lambda seed, **fields: RandomCrop(**plain, **fields)(image, np.random.default_rng(seed))  # noqa: E731
    assert np.array_equal(crop(1, vertical_flip=1.0), crop(1)[::-1])
    turned = [crop(seed, flip=0.0, turn=1.0) for seed in range(12)]
    ways = [next(turns for turns in range(4) if np.array_equal(one, np.rot90(image, turns))) for one in turned]
    assert set(ways) == {1, 2, 3}
    colored = crop(1, color_jitter=ColorJitter(1.0))
    assert 1 < np.abs(colored.astype(int) - crop(1)).mean() < 60


def test_rand_augment_comes_last(monkeypatch):
    monkeypatch.setattr(rand_augment, "OPERATIONS", {"invert": rand_augment.OPERATIONS["invert"]})
    invert, image = RandAugment(operations=1, probability=1.0), noise(30, 40)
    augmented, plain = (RandomCrop(8, rand_augment=last)(image, np.random.default_rng(3)) for last in (invert, PLAIN))
    assert np.array_equal(augmented, 255 - plain)


def test_a_centre_crop_gives_the_pixels_of_torchvision():
    picture, crop = checked_picture(), CenterCrop(size=4, resize=5)
    np.testing.assert_allclose(crop(picture)[..., 2].astype(int), TORCHVISION, atol=1)
    upright = np.ascontiguousarray(picture.transpose(1, 0, 2))
    np.testing.assert_allclose(crop(upright)[..., 2].T.astype(int), TORCHVISION, atol=1)


@settings(deadline=None, max_examples=40)
@given(st.integers(3, 120), st.integers(3, 120), st.integers(1, 40), st.integers(0, 9))
def test_a_centre_crop_follows_the_published_rule(height, width, size, more):
    image, resize = noise(height, width), size + more
    short, long = min(height, width), max(height, width)
    out_h, out_w = (int(resize * long / short) if side == long else resize for side in (height, width))
    top, left = round((out_h - size) / 2.0), round((out_w - size) / 2.0)
    expected = bicubic(image, out_h, out_w)[top : top + size, left : left + size]
    assert np.array_equal(CenterCrop(size, resize)(image), expected)


@pytest.mark.parametrize(("height", "width"), [(500, 741), (640, 427), (30, 45), (45, 30), (20, 20)])
def test_a_centre_crop_to_the_nearest_pixel_rounds_the_longer_side_and_begins_at_the_half_below(height, width):
    image, short = noise(height, width), min(height, width)
    out_h, out_w = (round(24 * side / short) for side in (height, width))
    top, left = (out_h - 24) // 2, (out_w - 24) // 2
    expected = bicubic(image, out_h, out_w)[top : top + 24, left : left + 24]
    assert np.array_equal(CenterCrop(24, 24, nearest=True)(image), expected)


@pytest.mark.parametrize("shape", [(1, 1), (1, 60_000), (60_000, 1), (3, 2)])
def test_a_centre_crop_takes_any_image_without_filling_the_memory(shape):
    assert CenterCrop()(noise(*shape)).shape == (224, 224, 3)


def test_the_middle_of_a_line_is_its_middle():
    line = np.zeros((1, 1001, 3), np.uint8)
    line[:, 500:] = 255
    square = CenterCrop(size=8, resize=8)(line)
    assert square[0, 0, 0] < 128 < square[0, -1, 0]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RandomCrop(size=0), "RandomCrop.size .* got 0"),
        (lambda: RandomCrop(area=(0.0, 1.0)), r"area .* got \(0.0, 1.0\)"),
        (lambda: RandomCrop(area=(0.5, 0.2)), r"area .* got \(0.5, 0.2\)"),
        (lambda: RandomCrop(area=(0.5, 1.5)), r"area .* got \(0.5, 1.5\)"),
        (lambda: RandomCrop(aspect=(2.0, 1.0)), r"aspect .* got \(2.0, 1.0\)"),
        (lambda: RandomCrop(aspect=(0.0, 1.0)), r"aspect .* got \(0.0, 1.0\)"),
        (lambda: RandomCrop(flip=1.5), r"flip .* \[0, 1\], got 1.5"),
        (lambda: CenterCrop(size=-1), "CenterCrop.size .* got -1"),
        (lambda: CenterCrop(size=300), "resize is at least its size of 300, got 256"),
    ],
)
def test_a_crop_that_cannot_be_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
