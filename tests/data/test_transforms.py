"""Flip, resize and crop against the published rules written out plainly, and against Pillow."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitjax.data.source import Sample
from vitjax.data.transforms import Augmentation, Resize, draw, resized_size

SIDES = st.integers(1, 700)


def published_size(width, height, size, max_size):
    """The published rule, one image at a time, (height, width)."""
    if max_size is not None:
        low, high = float(min(width, height)), float(max(width, height))
        if high / low * size > max_size:
            size = round(max_size * low / high)
    size = max(size, 1)
    if width < height:
        return int(size * height / width), size
    return size, int(size * width / height)


def drawn(augmentation, height, width, seed=0, count=200):
    """Many geometries for images of one size."""
    return draw(augmentation, np.random.default_rng(seed), np.tile(np.array([height, width], np.int32), (count, 1)))


def scene(height, width, boxes=((1, 2, 3, 4),)):
    """Noise with some boxes on it."""
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    return Sample(image, boxes, np.arange(len(boxes), dtype=np.int32))


@settings(deadline=None)
@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(1, 900), st.one_of(st.none(), st.integers(50, 1400)))
def test_resized_size_follows_the_published_rule(height, width, size, max_side):
    got = resized_size(np.array([[height, width]], np.int32), np.array([size]), max_side)
    assert tuple(got[0]) == published_size(width, height, size, max_side)


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [(480, 640, (800, 1066)), (427, 640, (800, 1199)), (640, 360, (1333, 750)), (375, 500, (800, 1066))],
)
def test_evaluation_resize_gives_known_coco_sizes(height, width, expected):
    assert Resize().geometries(np.array([[height, width]], np.int32))[0].output == expected


def test_resize_without_size_keeps_the_image():
    geometry = Resize(size=None).geometries(np.array([[30, 50]], np.int32))[0]
    sample = scene(30, 50)
    assert geometry.apply(sample).image is sample.image


def test_a_very_long_image_keeps_at_least_one_pixel():
    assert Resize().geometries(np.array([[1, 5000]], np.int32)).output.min() >= 1


@settings(deadline=None, max_examples=40)
@given(st.integers(20, 3000), st.integers(20, 3000), st.integers(0, 2**31))
def test_drawn_geometries_are_what_the_published_transforms_can_give(height, width, seed):
    augmentation = Augmentation()
    for geometry in drawn(augmentation, height, width, seed, count=20):
        first_h, first_w = geometry.resized
        top, left, crop_h, crop_w = geometry.crop
        if geometry.resized == geometry.source and geometry.crop == (0, 0, height, width):
            finals = {published_size(width, height, size, 1333) for size in augmentation.sizes}
        else:
            assert geometry.resized in {published_size(width, height, size, None) for size in augmentation.crop_sizes}
            assert min(first_h, 384) <= crop_h <= min(first_h, 600) and min(first_w, 384) <= crop_w <= min(first_w, 600)
            assert 0 <= top <= first_h - crop_h and 0 <= left <= first_w - crop_w
            finals = {published_size(crop_w, crop_h, size, 1333) for size in augmentation.sizes}
        assert geometry.output in finals


def test_crop_sides_reach_both_ends_of_their_range():
    sides = drawn(Augmentation(crop=1.0, crop_sizes=(), crop_range=(10, 13)), 40, 50, count=500).crop[:, 2:]
    assert np.unique(sides[:, 0]).tolist() == np.unique(sides[:, 1]).tolist() == [10, 11, 12, 13]


def test_crop_corners_reach_every_place():
    crop = drawn(Augmentation(crop=1.0, crop_sizes=(), sizes=(), crop_range=(4, 4)), 6, 5, count=500).crop
    assert np.unique(crop[:, 0]).tolist() == [0, 1, 2] and np.unique(crop[:, 1]).tolist() == [0, 1]


def test_probabilities_and_choices_are_as_frequent_as_they_should_be():
    geometries = drawn(Augmentation(), 480, 640, count=20000)
    cropped = (geometries.resized != geometries.source).any(1)
    plain, counts = np.unique(geometries.output[~cropped, 0], return_counts=True)
    assert abs(geometries.flip.mean() - 0.5) < 0.02 and abs(cropped.mean() - 0.5) < 0.02
    assert len(plain) == 11 and counts.min() / counts.max() > 0.75


def test_an_image_is_drawn_alike_whatever_comes_after_it():
    sizes = np.array([[480, 640], [300, 200], [50, 900]], np.int32)
    some = draw(Augmentation(), np.random.default_rng(5), sizes[:2])
    more = draw(Augmentation(), np.random.default_rng(5), sizes)
    assert [some[i] for i in range(2)] == [more[i] for i in range(2)]


def test_no_more_is_drawn_from_a_generator_than_the_first_versions_drew():
    used, other = np.random.default_rng(5), np.random.default_rng(5)
    draw(Augmentation(turn=0.5), used, np.full((7, 2), 50, np.int32))
    other.random((7, 8))
    assert used.random() == other.random()


def test_identity_augmentation_changes_nothing():
    sample = scene(64, 64)
    after = drawn(Augmentation(flip=0.0, sizes=(), crop=0.0), 64, 64)[0].apply(sample)
    assert np.array_equal(after.image, sample.image) and np.array_equal(after.boxes, sample.boxes)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"flip": 1.5}, r"flip .* \[0, 1\], got 1.5"),
        ({"crop": -0.1}, r"crop .* got -0.1"),
        ({"sizes": (480, 0)}, "sizes .* got 0"),
        ({"max_side": 0}, "max_side .* got 0"),
        ({"crop_range": (600, 384)}, r"crop_range .* \(600, 384\)"),
    ],
)
def test_an_augmentation_that_cannot_be_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Augmentation(**fields)


def test_boxes_cover_the_pixels_that_they_covered_before():
    image = np.zeros((120, 200, 3), np.uint8)
    image[30:90, 50:130] = 255
    sample = Sample(image, np.array([[50, 30, 130, 90]], np.float32), np.array([0], np.int32))
    augmentation = Augmentation(sizes=(90, 140), crop_sizes=(100, 160), crop_range=(100, 120))
    for geometry in drawn(augmentation, 120, 200, count=40):
        after = geometry.apply(sample)
        rows, columns = np.nonzero(after.image[..., 0] > 127)
        seen = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        np.testing.assert_allclose(after.boxes[0], seen, atol=1.5)


@settings(deadline=None, max_examples=30)
@given(st.integers(20, 300), st.integers(20, 300), st.integers(0, 2**31))
def test_boxes_stay_inside_the_image_and_keep_their_labels(height, width, seed):
    rng = np.random.default_rng(seed)
    corners = np.sort(rng.uniform(0, 1, (6, 2, 2)), axis=1) * [width, height]
    sample = scene(height, width, corners.reshape(6, 4))
    augmentation = Augmentation(sizes=(40, 64, 90), max_side=150, crop_sizes=(50, 80), crop_range=(30, 70))
    for geometry in drawn(augmentation, height, width, seed, count=6):
        after = geometry.apply(sample)
        high = np.array(geometry.output[::-1])
        assert after.image.shape == (*geometry.output, 3) and len(after.boxes) == len(after.labels)
        assert (after.boxes[:, :2] < after.boxes[:, 2:]).all()
        assert (after.boxes >= -1e-3).all() and (after.boxes[:, 2:] <= high + 1e-3).all()
