import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from vitjax.data.digits import Digits
from vitjax.data.errors import DataError
from vitjax.data.image_folder import FolderImages
from vitjax.data.memory import Pictures, Subset, is_picture, pictures_of
from vitjax.data.source import Classes, SizedSource

CLASSES = Classes((), ())


def saved(path, mode="RGB", orientation=1):
    """A file of noise that a camera held this way."""
    noise = np.random.default_rng(0).integers(0, 256, (20, 32, 3), dtype=np.uint8)
    if mode == "I;16":
        image = Image.fromarray(noise[..., 0].astype(np.uint16) * 257)
    else:
        image = Image.fromarray(noise).convert(mode)
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(path, exif=exif)
    return path


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
def test_a_file_and_the_same_file_opened_by_pillow_are_equal_however_the_camera_was_held(tmp_path, suffix, orientation):
    path = saved(tmp_path / f"photo.{suffix}", orientation=orientation)
    with Image.open(path) as opened:
        file, picture = Pictures([path], CLASSES), Pictures([opened], CLASSES)
    assert np.array_equal(file[0].image, picture[0].image)
    assert file.sizes.tolist() == picture.sizes.tolist() == [list(file[0].image.shape[:2])]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "I;16"])
def test_a_file_of_any_pixels_and_the_same_file_opened_by_pillow_are_equal(tmp_path, mode):
    path = saved(tmp_path / "image.png", mode)
    with Image.open(path) as opened:
        assert np.array_equal(Pictures([path], CLASSES)[0].image, Pictures([opened], CLASSES)[0].image)


def test_what_is_no_image_is_refused_with_what_it_is():
    with pytest.raises(DataError, match=r"array of float64 and shape \(3, 40, 40\)\. An image is a path, a PIL image"):
        Pictures([np.zeros((3, 40, 40))], CLASSES)
    with pytest.raises(DataError, match=r"nowhere.jpg cannot be opened: No such file"):
        Pictures(["nowhere.jpg"], CLASSES)


def test_a_subset_has_the_chosen_records_and_their_sizes():
    whole = Digits(train_images=6).open("train")
    part = Subset(whole, [4, 1])
    assert isinstance(part, SizedSource) and len(part) == 2
    assert part.image_ids == [5, 2] and [part.name(row) for row in (0, 1)] == [whole.name(4), whole.name(1)]
    assert part.sizes.tolist() == whole.sizes[[4, 1]].tolist()
    assert np.array_equal(part[0].image, whole[4].image)


def test_a_subset_of_a_source_without_sizes_has_none(tmp_path):
    whole = FolderImages(tmp_path, Classes(("a",), (0,)), ("a/1.png",), np.zeros(1, np.int32), ())
    assert not hasattr(Subset(whole, [0]), "sizes")


def test_arrays_of_jax_and_batches_are_images_by_one_rule_for_all_of_a_batch():
    shares = np.random.default_rng(0).uniform(0, 1, (2, 8, 6, 3)).astype(np.float32)
    given = pictures_of(shares)
    assert not is_picture(shares) and is_picture(shares[0]) and is_picture(jnp.asarray(shares[0]))
    assert [one.shape for one in given] == [(8, 6, 3)] * 2
    np.testing.assert_array_equal(given[1], np.rint(255 * shares[1].astype(np.float64)))
    np.testing.assert_array_equal(Pictures([jnp.asarray(shares[1])], CLASSES)[0].image, given[1])
    dark = np.stack([np.zeros((4, 4, 1)), np.full((4, 4, 1), 200.0)])
    dark[0, 0, 0] = 1  # of 255: alone it would be white
    assert [one.max() for one in pictures_of(dark)] == [1, 200]
    half = Pictures([jnp.full((2, 2), 0.5, jnp.bfloat16)], CLASSES)[0].image
    assert half.tolist() == np.full((2, 2, 3), 128).tolist()
    assert pictures_of(np.zeros((0, 4, 4, 3))) == []


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (None, "or the bytes of a file; got NoneType"),
        (3, "got int"),
        ([[0, 1]], "got list"),
        (np.zeros((2, 3, 40, 50)), r"the array of images is an array of float64"),
        ([np.zeros((2, 4, 4, 3))], r"the image is an array of float64 and shape \(2, 4, 4, 3\)"),
        ([np.zeros((4, 4)), np.full((4, 4), -1)], "image 1 has pixels from -1 to -1"),
        ([b"no image"], "the image is no image: it begins with b'no image'"),
        ([b""], "the image is empty"),
        (np.array(["a.png"], object), "dtype|array of object"),
    ],
)
def test_what_is_neither_an_image_nor_a_list_of_them_is_told(given, words):
    with pytest.raises(DataError, match=words):
        Pictures([given] if is_picture(given) else pictures_of(given), CLASSES)


def test_a_picture_of_pillow_that_breaks_off_is_told(tmp_path):
    path = saved(tmp_path / "a.png")
    path.write_bytes(path.read_bytes()[:800])
    with pytest.raises(DataError, match="the image is broken or truncated"):
        Pictures([Image.open(path)], CLASSES)
