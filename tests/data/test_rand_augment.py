"""RandAugment against timm's pixels, against plain arithmetic, and its draws against their rates."""

import math
from functools import partial

import numpy as np
import pytest
from PIL import Image

from vitjax.data import rand_augment
from vitjax.data.rand_augment import OPERATIONS, RandAugment

LEVELS = np.arange(256)
FILL = [124, 116, 104]  # the mean of ImageNet times 255

# Made once with timm 1.0.31 and Pillow 13.0.0 (Pillow 11.0.0 gave the same): timm's AugmentOp at magnitude 9 with the
# settings of create_transform(auto_augment="rand-m9-mstd0.5-inc1", interpolation="bicubic") on `checked_picture()`.
# The pixels at (row, column) (2, 3), (6, 9) and (10, 13), first for sign 1, then for sign -1.
TIMM = {
    "auto_contrast": [[51, 46, 44], [153, 139, 132], [221, 231, 140]] * 2,
    "equalize": [[48, 50, 44], [144, 130, 132], [208, 210, 140]] * 2,
    "invert": [[207, 205, 211], [111, 125, 123], [47, 45, 115]] * 2,
    "rotate": [[82, 15, 136], [136, 141, 237], FILL, [29, 99, 123], [145, 117, 42], [233, 150, 187]],
    "posterize": [[0, 0, 0], [128, 128, 128], [128, 128, 128]] * 2,
    "solarize": [[207, 205, 211], [111, 125, 123], [47, 45, 115]] * 2,
    "solarize_add": [[147, 149, 143], [144, 130, 132], [208, 210, 140]] * 2,
    "color": [[47, 50, 39], [152, 126, 130], [213, 217, 90], [48, 49, 48], [135, 133, 133], [202, 202, 189]],
    "contrast": [[0, 0, 0], [162, 137, 140], [255, 255, 155], [107, 107, 106], [125, 122, 123], [137, 137, 124]],
    "brightness": [[86, 90, 79], [255, 235, 238], [255, 255, 253], [9, 9, 8], [27, 24, 25], [39, 39, 26]],
    "sharpness": [[48, 50, 0], [144, 130, 148], [208, 210, 156], [48, 50, 91], [144, 130, 115], [208, 210, 123]],
    "shear_x": [[57, 50, 67], [170, 130, 198], FILL, [38, 50, 0], [117, 130, 65], [164, 210, 0]],
    "shear_y": [[48, 67, 124], [144, 180, 76], FILL, [48, 32, 205], [144, 79, 187], [208, 138, 36]],
    "translate_x": [[151, 50, 14], [242, 130, 121], FILL, FILL, [40, 130, 128], [104, 210, 136]],
    "translate_y": [[48, 145, 244], [144, 227, 94], FILL, FILL, [144, 34, 178], [208, 114, 186]],
}

# How the grey level v comes out at strength s; int() as in the published code.
OF_A_LEVEL = {
    "invert": lambda v, s: 255 - v,
    "posterize": lambda v, s: v // 2 ** (4 + int(4 * s)) * 2 ** (4 + int(4 * s)),
    "solarize": lambda v, s: np.where(v < 256 - int(256 * s), v, 255 - v),
    "solarize_add": lambda v, s: np.where(v < 128, np.minimum(v + int(110 * s), 255), v),
}

# Where pixel (x, y), counted from the centre of a 60x40 picture, comes from; `t` is strength times sign.
FROM = {
    "rotate": lambda x, y, t: (
        x * math.cos(math.radians(30 * t)) - y * math.sin(math.radians(30 * t)),
        x * math.sin(math.radians(30 * t)) + y * math.cos(math.radians(30 * t)),
    ),
    "shear_x": lambda x, y, t: (x + 0.3 * t * (y + 20), y),
    "shear_y": lambda x, y, t: (x, y + 0.3 * t * (x + 30)),
    "translate_x": lambda x, y, t: (x + 0.45 * t * 60, y),
    "translate_y": lambda x, y, t: (x, y + 0.45 * t * 40),
}


def checked_picture():
    """12x16 pixels: two ramps, and a pattern that is no ramp."""
    y, x = np.mgrid[:12, :16]
    return np.stack([16 * x, 10 + 20 * y, (40 * x + 90 * y) % 256], -1).astype(np.uint8)


def noise(height=20, width=30):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def after(name, image, strength, sign=1):
    return np.asarray(OPERATIONS[name](Image.fromarray(image), strength, sign))


@pytest.fixture
def calls(monkeypatch):
    """What every operation is asked for, as (name, strength, sign), while none of them does anything."""
    asked = []

    def record(name, image, strength, sign):
        asked.append((name, strength, sign))
        return image

    monkeypatch.setattr(rand_augment, "OPERATIONS", {name: partial(record, name) for name in OPERATIONS})
    return asked


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_gives_the_pixels_of_timm(name):
    results = [after(name, checked_picture(), 0.9, sign)[[2, 6, 10], [3, 9, 13]] for sign in (1, -1)]
    np.testing.assert_allclose(np.concatenate(results).astype(int), TIMM[name], atol=1)


@pytest.mark.parametrize("strength", [0.0, 0.3, 0.9, 0.999, 1.0])
@pytest.mark.parametrize("name", OF_A_LEVEL)
def test_an_operation_on_levels_is_exact(name, strength):
    image = np.repeat(LEVELS, 3).reshape(16, 16, 3).astype(np.uint8)
    assert np.array_equal(after(name, image, strength)[..., 0].ravel(), OF_A_LEVEL[name](LEVELS, strength))


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("strength", [0.3, 1.0])
@pytest.mark.parametrize("name", FROM)
def test_a_pixel_is_taken_from_where_the_geometry_says(name, strength, sign):
    y, x = np.mgrid[:40, :60]
    image = np.stack([4 * x, 6 * y, 0 * x], -1).astype(np.uint8)
    got = after(name, image, strength, sign)
    from_x, from_y = FROM[name](x - 29.5, y - 19.5, strength * sign)
    from_x, from_y = from_x + 29.5, from_y + 19.5
    inside = (1 <= from_x) & (from_x <= 58) & (1 <= from_y) & (from_y <= 38)  # bicubic keeps a ramp, but for its ends
    outside = (from_x < -1) | (from_x > 60) | (from_y < -1) | (from_y > 40)
    there = np.stack([4 * from_x, 6 * from_y], -1)
    # Pillow shears about the corner of the picture, half a pixel from the first pixel's centre: at most 0.15 pixels.
    np.testing.assert_allclose(got[inside][:, :2], there[inside], atol=2)
    assert inside.sum() > 500 and (got[outside] == FILL).all()


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("strength", [0.3, 0.9])
def test_an_enhancement_moves_away_from_what_it_enhances(strength, sign):
    image, factor = noise(), 1 + 0.9 * strength * sign
    grey = np.asarray(Image.fromarray(image).convert("L"), float)[..., None]
    for name, least in {"color": grey, "contrast": np.rint(grey.mean()), "brightness": 0.0}.items():
        expected = np.clip(least + factor * (image - least), 0, 255)
        np.testing.assert_allclose(after(name, image, strength, sign), expected, atol=1, err_msg=name)


def test_sharpness_blurs_or_sharpens():
    contrast = [after("sharpness", noise(), 0.9, sign).std() for sign in (-1, 1)]
    assert contrast[0] < noise().std() < contrast[1]


@pytest.mark.parametrize("sign", [1, -1])
def test_strength_0_changes_nothing_where_there_is_a_strength(sign):
    dark = noise() // 2
    unchanged = {name for name in OPERATIONS if np.array_equal(after(name, dark, 0.0, sign), dark)}
    assert set(OPERATIONS) - unchanged == {"auto_contrast", "equalize", "invert", "posterize"}


def test_posterize_at_full_strength_is_black():
    assert not after("posterize", noise(), 1.0).any()


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (2, 2), (5, 3)])
@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_takes_an_image_of_any_size(name, shape):
    result = after(name, noise(*shape), 0.9)
    assert result.shape == (*shape, 3) and result.dtype == np.uint8


@pytest.mark.parametrize("off", [{"operations": 0}, {"probability": 0.0}])
def test_nothing_happens_when_it_is_switched_off(off):
    rng = np.random.default_rng(0)
    assert all(np.array_equal(RandAugment(**off)(noise(), rng), noise()) for _ in range(20))


def test_the_same_generator_gives_the_same_image_again():
    first, again = ([RandAugment()(noise(), np.random.default_rng(seed)) for seed in range(20)] for _ in range(2))
    assert all(map(np.array_equal, first, again))
    assert len({image.tobytes() for image in first}) > 10


def test_the_image_that_is_handed_in_stays_as_it_is():
    image = noise()
    for seed in range(20):
        RandAugment(probability=1.0)(image, np.random.default_rng(seed))
    assert np.array_equal(image, noise())


def test_operations_come_one_after_the_other(monkeypatch):
    monkeypatch.setattr(rand_augment, "OPERATIONS", {"invert": OPERATIONS["invert"]})
    for operations, expected in [(1, 255 - noise()), (2, noise()), (3, 255 - noise())]:
        augment = RandAugment(operations=operations, probability=1.0)
        assert np.array_equal(augment(noise(), np.random.default_rng(0)), expected)


def test_every_operation_is_as_frequent_as_any_other(calls):
    rng = np.random.default_rng(0)
    for _ in range(6000):
        RandAugment()(noise(1, 1), rng)
    names, counts = np.unique([name for name, _, _ in calls], return_counts=True)
    assert set(names) == set(OPERATIONS) and len(calls) == pytest.approx(6000, rel=0.05)
    assert counts == pytest.approx(np.full(15, len(calls) / 15), rel=0.2)


def test_strength_is_normal_about_the_magnitude_and_signs_are_even(calls):
    rng = np.random.default_rng(0)
    for _ in range(1000):
        RandAugment(operations=4, probability=1.0)(noise(1, 1), rng)
    strength, sign = np.array([call[1:] for call in calls]).T
    assert len(calls) == 4000 and set(sign) == {-1, 1} and abs(sign.mean()) < 0.05
    assert np.median(strength) == pytest.approx(0.9, abs=0.005)
    assert np.mean(np.abs(strength - 0.9) < 0.05) == pytest.approx(0.683, abs=0.03)
    assert strength.max() == 1 and np.mean(strength == 1) == pytest.approx(0.023, abs=0.01)


def test_strength_stays_within_0_and_1(calls):
    RandAugment(operations=200, magnitude=0.0, deviation=50.0, probability=1.0)(noise(1, 1), np.random.default_rng(0))
    strength = np.array([call[1] for call in calls])
    assert strength.min() == 0 and strength.max() == 1


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"operations": -1}, "operations .* got -1"),
        ({"magnitude": 11.0}, r"magnitude .* \[0, 10\], got 11"),
        ({"deviation": -0.5}, "deviation .* got -0.5"),
        ({"deviation": math.inf}, "deviation .* got inf"),
        ({"probability": math.nan}, r"probability .* \[0, 1\], got nan"),
    ],
)
def test_a_rand_augment_that_cannot_be_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        RandAugment(**fields)
