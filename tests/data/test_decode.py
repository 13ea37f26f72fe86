import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from vitjax.data.arrays import as_rgb
from vitjax.data.decode import decode, decoded, is_turned, read_size
from vitjax.data.errors import DataError

PIXELS = cv2.resize(np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8), (48, 32))
PICTURE = Image.fromarray(PIXELS)


def encoded(picture, kind="PNG", **options):
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_every_mode_of_png_becomes_rgb(mode):
    picture = PICTURE.convert(mode)
    assert np.array_equal(decode(encoded(picture), "a.png"), np.asarray(picture.convert("RGB")))


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_every_mode_of_jpeg_becomes_rgb(mode):
    data = encoded(PICTURE.convert(mode), "JPEG", quality=95)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), int)
    assert np.abs(decode(data, "a.jpg") - expected).max() <= 1


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "BMP", "TIFF", "TGA", "PPM"])
def test_other_formats_are_read(kind):
    data = encoded(PICTURE, kind)
    assert np.array_equal(decode(data, "a"), np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
@pytest.mark.parametrize("channels", [1, 3], ids="channels={}".format)
def test_sixteen_bits_are_scaled_not_clipped(suffix, channels):
    deep = PIXELS[:, :, :channels].astype(np.uint16) * 257
    data = cv2.imencode(suffix, deep[:, :, ::-1])[1].tobytes()
    assert np.array_equal(decode(data, "deep"), np.broadcast_to(PIXELS[:, :, :channels], PIXELS.shape))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9), ids="orientation={}".format)
def test_exif_orientation_is_applied_only_on_demand(kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(PICTURE, kind, exif=exif)
    stored, upright = decode(data, "a"), decode(data, "a", orient=True)
    viewed = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))
    assert np.array_equal(upright, viewed) and upright.flags.c_contiguous
    assert read_size(io.BytesIO(data), "a") == stored.shape[:2]
    if kind != "TIFF":  # Pillow and OpenCV turn it whatever they are told
        assert stored.shape == PIXELS.shape
        assert is_turned(io.BytesIO(data), "a") == (orientation >= 5)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "is empty"),
        (b"<!DOCTYPE html><html>404</html>", "no image: it begins with b'<!DOCTYPE html>"),
        (encoded(PICTURE, "JPEG")[:-200], "truncated"),
        (encoded(PICTURE, "JPEG")[:20], "a.jpg"),
        (encoded(PICTURE)[:1000], "truncated"),
        (encoded(PICTURE, "WEBP")[:100], "a.jpg"),
    ],
    ids=["empty", "html", "cut jpeg", "cut jpeg header", "cut png", "cut webp"],
)
def test_a_file_that_cannot_be_decoded_is_named_with_the_reason(data, reason):
    with pytest.raises(DataError, match=r"^a.jpg .*\.$") as caught:
        decode(data, "a.jpg")
    assert reason in str(caught.value)


def with_header(width, height):
    """A small PNG whose header says that it is large."""
    header = struct.pack(">4s2I", b"IHDR", width, height) + encoded(PICTURE)[24:29]
    return encoded(PICTURE)[:12] + header + struct.pack(">I", zlib.crc32(header)) + encoded(PICTURE)[33:]


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [9_500, 14_000, 60_000], ids="side={}".format)
def test_a_file_that_would_fill_the_memory_is_refused_by_its_header(side):
    with pytest.raises(DataError, match=r"bomb\.png is too large"):
        decode(with_header(side, side), "bomb.png")


def test_a_header_that_promises_more_than_the_file_holds_is_refused():
    with pytest.raises(DataError, match=r"a\.png is broken or truncated"):
        decode(with_header(480, 320), "a.png")


def test_a_png_that_lacks_only_its_end_is_still_read():
    assert np.array_equal(decode(encoded(PICTURE)[:-4], "a.png"), PIXELS)


def test_an_image_whose_colours_cannot_be_converted_is_named():
    with pytest.raises(DataError, match="Pillow's mode 'La'"):
        decoded(Image.new("La", (3, 3)))


def deep(kind):
    """Pixels that are no bytes, and the image of Pillow that holds them."""
    rng = np.random.default_rng(1)
    numbers = {
        "16-bit": rng.integers(0, 65536, (9, 7), np.uint16),
        "32-bit": rng.integers(0, 65536, (9, 7), np.int32),
        "small": rng.integers(0, 256, (9, 7), np.int32),
        "shares": rng.random((9, 7), np.float32),
        "floats": rng.random((9, 7), np.float32) * 255,
    }[kind]
    return numbers, Image.fromarray(numbers)


@pytest.mark.parametrize(
    ("kind", "suffix"),
    [
        ("16-bit", "PNG"),
        ("16-bit", "JPEG2000"),
        *((kind, "TIFF") for kind in "16-bit,32-bit,small,shares,floats".split(",")),
    ],
)
def test_deep_pixels_are_the_same_as_a_file_as_an_image_and_as_an_array(kind, suffix):
    pixels, picture = deep(kind)
    options = {"irreversible": False} if suffix == "JPEG2000" else {}
    data = encoded(picture, suffix, **options)
    image = decode(data, "deep")
    assert np.array_equal(image, as_rgb(pixels)) and np.array_equal(image, decoded(picture))
    assert np.array_equal(image, decoded(Image.open(io.BytesIO(data)))) and np.ptp(image) > 200


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_deep_colours_are_the_same_as_a_file_as_an_image_and_as_an_array(suffix, channels):
    pixels = np.random.default_rng(2).integers(0, 65536, (9, 7, channels), np.uint16)
    stored = pixels[..., [2, 1, 0, 3][:channels]] if channels > 1 else pixels
    data = cv2.imencode(suffix, stored)[1].tobytes()
    image = decode(data, "deep")
    assert np.array_equal(image, as_rgb(pixels)) and np.array_equal(image, decoded(Image.open(io.BytesIO(data))))


def test_cmyk_is_mixed_alike_in_a_file_and_in_a_picture():
    inks = np.random.default_rng(1).integers(0, 256, (8, 8, 4), np.uint8)
    for kind in ("JPEG", "TIFF"):
        data = encoded(Image.fromarray(inks, "CMYK"), kind)
        assert np.array_equal(decode(data, "a"), decoded(Image.open(io.BytesIO(data))))


def test_postscript_is_refused_since_showing_it_would_run_it():
    with pytest.raises(DataError, match=r"a\.jpg is PostScript, a program"):
        read_size(io.BytesIO(encoded(PICTURE, "EPS")), "a.jpg")
