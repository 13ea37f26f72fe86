import numpy as np
import pytest

from vitjax.data.arrays import as_rgb
from vitjax.data.errors import DataError


@pytest.mark.parametrize(
    ("pixels", "expected"),
    [
        (np.uint8(7), 7),
        (np.uint16(7 * 256 + 255), 7),
        (np.uint16(255), 0),
        (np.array(7, ">u2"), 0),
        (np.int64(255), 255),
        (np.int32(256), 1),
        (np.int16(32767), 127),
        (np.float32(1), 255),
        (np.float64(0.5), 128),
        (np.float32(2.2), 2),
        (np.float16(254.6), 255),
        (np.float64(65535), 255),
        (np.bool_(True), 255),
    ],
    ids=lambda value: f"{getattr(value, 'dtype', '')}{value}",
)
def test_numbers_of_every_kind_become_eight_bits(pixels, expected):
    image = as_rgb(np.full((2, 3), pixels))
    assert image.dtype == np.uint8 and image.shape == (2, 3, 3) and np.all(image == expected)


@pytest.mark.parametrize("channels", range(5))
def test_grey_is_in_all_channels_and_transparency_in_none(channels):
    shape = (4, 5, channels) if channels else (4, 5)
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    image = as_rgb(pixels)
    assert np.array_equal(
        image, pixels[..., :3] if channels >= 3 else np.stack([pixels.reshape(4, 5, -1)[..., 0]] * 3, -1)
    )


@pytest.mark.parametrize(
    ("pixels", "words"),
    [
        (np.zeros((3, 40, 50)), r"array of float64 and shape \(3, 40, 50\)"),
        (np.zeros((4, 0, 3)), "shape"),
        (np.zeros(4), "shape"),
        (np.zeros((2, 2), complex), "complex128"),
        (np.array([["a"]]), "<U1"),
        (np.array([[0, np.nan]]), "pixels from nan to nan"),
        (np.array([[-1.5, 2]]), r"pixels from -1\.5 to 2\. An image is"),
        (np.array([[0, 70000]]), "pixels from 0 to 70000"),
        (np.array([[0.0, 1.0001]]), r"floats from 0 to 1\.0001, neither 0 to 1 nor 0 to 255\. Clip or scale them"),
        (np.full((2, 2), 2.0), "floats from 2 to 2"),
    ],
    ids=str,
)
def test_numbers_that_are_no_pixels_are_refused_in_words(pixels, words):
    with pytest.raises(DataError, match=words):
        as_rgb(pixels)
