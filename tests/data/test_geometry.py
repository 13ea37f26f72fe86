"""What is done to one image, its boxes and its labels: against Pillow, NumPy and what can be seen of it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from painted import box_of, painted, pixels_of
from PIL import Image

from vitjax.data.errors import DataError
from vitjax.data.geometry import FILL, Geometry, resize_image, resize_labels
from vitjax.data.source import NO_LABEL, Sample
from vitjax.data.transforms import Resize

SIDES = st.integers(1, 700)


def scene(height, width, boxes=((1, 2, 3, 4),)):
    """Noise with some boxes on it."""
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    return Sample(image, boxes, np.arange(len(boxes), dtype=np.int32))


@settings(deadline=None, max_examples=60)
@given(SIDES, SIDES, SIDES, SIDES, st.booleans())
def test_resize_is_within_one_level_of_pillow(height, width, to_height, to_width, extreme):
    image = np.random.default_rng(height * 701 + width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    if extreme:
        image = np.where(image > 127, 255, 0).astype(np.uint8)
    pillow = Image.fromarray(image).resize((to_width, to_height), Image.Resampling.BILINEAR)
    ours = resize_image(image, (to_height, to_width))
    assert np.abs(ours.astype(int) - np.asarray(pillow)).max() <= 1


def test_flip_resize_crop_resize_is_within_two_levels_of_pillow():
    sample = scene(120, 160)
    geometry = Geometry((120, 160), True, (150, 200), (11, 23, 90, 101), (130, 145))
    pillow = Image.fromarray(sample.image).transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    pillow = pillow.resize((200, 150), Image.Resampling.BILINEAR).crop((23, 11, 23 + 101, 11 + 90))
    pillow = pillow.resize((145, 130), Image.Resampling.BILINEAR)
    assert np.abs(geometry.apply(sample).image.astype(int) - np.asarray(pillow)).max() <= 2


def test_boxes_follow_flip_resize_and_crop():
    geometry = Geometry((100, 200), True, (200, 400), (40, 100, 100, 200), (50, 100))
    after = geometry.apply(scene(100, 200, [[20, 30, 80, 60], [100, 40, 120, 70], [0, 0, 30, 30]]))
    # Flipped to x 120..180 and 80..100, doubled, moved by (100, 40), cut at 200x100, halved; the third falls outside.
    assert after.boxes.tolist() == [[70.0, 10.0, 100.0, 40.0], [30.0, 20.0, 50.0, 50.0]]
    assert after.labels.tolist() == [0, 1] and after.image.shape == (50, 100, 3)


def test_a_box_that_only_touches_the_crop_is_left_out():
    geometry = Geometry((10, 10), False, (10, 10), (0, 4, 10, 6), (10, 6))
    assert geometry.apply(scene(10, 10, [[1, 1, 4, 5], [1, 1, 4.5, 5]])).labels.tolist() == [1]


def test_an_image_without_objects_stays_without_objects():
    after = Geometry((20, 30), True, (40, 60), (3, 4, 20, 20), (10, 10)).apply(scene(20, 30, []))
    assert after.boxes.shape == (0, 4) and after.labels.shape == (0,)


def test_an_image_of_another_size_than_listed_is_named():
    geometry = Resize().geometries(np.array([[20, 30]], np.int32))[0]
    with pytest.raises(DataError, match=r"cat.jpg is 31x20 pixels, but listed as 30x20"):
        geometry.apply(scene(20, 31), "cat.jpg")


@pytest.mark.parametrize("flip", [False, True])
def test_a_label_map_goes_the_way_of_its_image(flip):
    labels = np.random.default_rng(1).integers(0, 5, (2, 2)).astype(np.uint8).repeat(30, 0).repeat(40, 1)
    image = np.repeat(labels[:, :, None] * 50, 3, axis=2)
    geometry = Geometry((60, 80), flip, (90, 120), (15, 30, 60, 75), (120, 150))
    sample = geometry.apply(Sample(image, np.zeros((0, 4), np.float32), np.zeros(0, np.int32), labels))
    assert sample.label_map.dtype == np.uint8 and sample.label_map.shape == (120, 150)
    # Away from the edges, which the image blurs, the two say the same.
    assert np.mean(sample.image[..., 0] == sample.label_map * 50) > 0.85


def test_a_label_is_that_of_the_pixel_whose_centre_is_nearest():
    labels = np.arange(6, dtype=np.uint8)[None]
    assert resize_labels(labels, (1, 2)).tolist() == [[1, 4]]
    assert resize_labels(labels, (2, 12)).tolist() == [[0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]] * 2
    assert resize_labels(labels, (1, 6)) is labels


def same(one, other):
    """Whether two samples are equal in everything."""
    pairs = [(getattr(one, name), getattr(other, name)) for name in ("image", "boxes", "labels", "label_map")]
    return all(np.array_equal(ours, theirs) for ours, theirs in pairs)


def still(size, **fields):
    """A geometry that does no more than its fields say."""
    upright = size[::-1] if fields.get("turns", 0) % 2 else size
    return Geometry(size, fields.pop("flip", False), upright, (0, 0, *upright), upright, **fields)


@settings(deadline=None, max_examples=20)
@given(st.integers(4, 40), st.integers(4, 40), st.data())
def test_two_flips_and_four_quarter_turns_change_nothing(height, width, data):
    left, top = data.draw(st.integers(0, width - 2)), data.draw(st.integers(0, height - 2))
    whole = painted((height, width), (left, top, width - 1, height - 1), mapped=True)
    whole.image[...] = np.random.default_rng(height).integers(0, 256, whole.image.shape)
    for name in ("flip", "vertical_flip"):
        geometry = still((height, width), **{name: True})
        assert same(geometry.apply(geometry.apply(whole)), whole) and not same(geometry.apply(whole), whole)
    turned = whole
    for _ in range(4):
        turned = still(turned.image.shape[:2], turns=1).apply(turned)
    assert same(turned, whole)


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_quarter_turns_are_numpys_and_as_many_as_single_ones(turns):
    once = whole = painted((20, 30), (3, 4, 9, 17), mapped=True)
    for _ in range(turns):
        once = still(once.image.shape[:2], turns=1).apply(once)
    together = still((20, 30), turns=turns).apply(whole)
    assert same(once, together)
    assert np.array_equal(together.image, np.rot90(whole.image, turns))
    assert np.array_equal(together.label_map, np.rot90(whole.label_map, turns))
    assert np.array_equal(box_of(pixels_of(together.image, 0)), together.boxes[0])


def test_a_mirror_image_upside_down_is_turned_by_a_half():
    whole = painted((20, 30), (3, 4, 9, 17), mapped=True)
    assert same(still((20, 30), flip=True, vertical_flip=True).apply(whole), still((20, 30), turns=2).apply(whole))


def test_beside_an_image_on_its_canvas_is_grey_without_label():
    geometry = Geometry((10, 10), False, (10, 10), (0, 0, 10, 10), (20, 30), place=(4, 6))
    after = geometry.apply(painted((10, 10), (2, 3, 5, 8), mapped=True))
    beside = np.ones((20, 30), bool)
    beside[4:14, 6:16] = False
    assert (after.image[beside] == FILL).all() and (after.label_map[beside] == NO_LABEL).all()
    assert after.boxes.tolist() == [[8, 7, 11, 12]] and (after.label_map == 0).sum() == 15


@pytest.mark.parametrize(("left", "kept"), [(5, True), (6, False)])
def test_a_box_stays_on_a_canvas_while_its_share_is_left(left, kept):
    geometry = Geometry((10, 20), False, (10, 20), (0, 0, 10, 10), (10, 10), place=(0, 0), visible=0.5)
    assert len(geometry.apply(painted((10, 20), (left, 2, left + 10, 8))).boxes) == kept


def test_a_box_below_a_pixel_has_no_place_on_a_canvas():
    geometry = Geometry((100, 100), False, (10, 10), (0, 0, 10, 10), (20, 20), place=(0, 0))
    assert len(geometry.apply(painted((100, 100), (40, 40, 49, 80))).boxes) == 0
    assert len(geometry.apply(painted((100, 100), (40, 40, 50, 80))).boxes) == 1
