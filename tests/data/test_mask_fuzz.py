"""Masks of any shape and whatever stands for one: the pixels of pycocotools and of plain loops, or a fault."""

import json

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as coco_masks

from vitjax.data.geometry import Geometry
from vitjax.data.masks import boxes_of, joined, moved, nearest_places, pack, pack_owners, take, unpack
from vitjax.data.outlines import box_of
from vitjax.data.run_lengths import SegmentationFault, area_of, decode, encode, encoded, gathered, lengths_of, written
from vitjax.ops.packed_masks import unpack_masks
from vitjax.segmentation.masks import object_masks, resize_maps

SIDE = st.integers(1, 9) | st.sampled_from([1, 1, 70])
SHAPE = st.tuples(SIDE, SIDE)


def masks_of(shape):
    """Any, full and empty ones, and those of one pixel."""
    one = st.integers(0, int(np.prod(shape)) - 1).map(lambda at: (np.arange(np.prod(shape)) == at).reshape(shape))
    return arrays(bool, shape) | st.booleans().map(lambda value: np.full(shape, value)) | one


def runs(mask):
    """The lengths of runs down the columns, the first of them of zeros, by a loop."""
    lengths, value = [0], False
    for pixel in mask.flatten(order="F"):
        if pixel != value:
            lengths.append(0)
            value = pixel
        lengths[-1] += 1
    return lengths


def is_the_mask_in_every_form(masks):
    for mask in masks:
        size, counts = mask.shape, encode(mask)
        assert lengths_of(counts).tolist() == runs(mask) and area_of(counts, size) == mask.sum()
        assert np.array_equal(decode(counts, size), mask)
        for form in (json.loads(json.dumps(written(counts, size))), {"size": list(size), "counts": runs(mask)}):
            assert encoded(form, size, empty=True) == (counts, 0)
            x, y, width, height = coco_masks.toBbox({"size": list(size), "counts": counts}).tolist()
            assert box_of(form) == ((x, y, width, height) if mask.any() else None)
            assert boxes_of(mask[None])[0].tolist() == [x, y, x + width, y + height]
    stored = gathered(map(encode, masks))
    assert [stored[row] for row in range(len(stored))] == [encode(mask) for mask in masks]
    return True


SAME_SIZE = SHAPE.flatmap(lambda shape: st.lists(masks_of(shape), max_size=3))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(SAME_SIZE)
def test_run_lengths_of_any_mask_are_those_of_a_loop(masks):
    assert is_the_mask_in_every_form(masks)


@pytest.mark.long
@settings(max_examples=10_000, deadline=None)
@given(SAME_SIZE)
def test_run_lengths_of_many_masks_are_those_of_a_loop(masks):
    assert is_the_mask_in_every_form(masks)


NUMBER = st.integers(-3, 80) | st.floats() | st.sampled_from([2**31, 2**62, -(2**63), 2**70, True, None, "1"])
TEXT = st.text(st.characters(min_codepoint=40, max_codepoint=120), max_size=12) | st.text(max_size=4)
POLYGON = st.lists(st.floats(-12, 30) | st.integers(-5, 20) | NUMBER, max_size=9)
SEGMENTATION = st.one_of(
    st.builds(lambda size, counts: {"size": size, "counts": counts}, st.lists(NUMBER, max_size=3) | st.just([6, 7]),
              TEXT | st.binary(max_size=9) | st.lists(NUMBER, max_size=6)),
    st.lists(POLYGON | st.lists(POLYGON, max_size=3), max_size=3),
    POLYGON,
    TEXT,
)  # fmt: skip


def is_a_mask_or_a_fault(segmentation, size):
    """Whether what is taken can be decoded, and is what pycocotools makes of it."""
    box = box_of(segmentation)
    assert box is None or (np.isfinite(box).all() and min(box[2:]) >= 0)
    try:
        counts, few = encoded(segmentation, size, empty=True)
    except SegmentationFault:
        return True
    mask = decode(counts, size)
    assert mask.shape == size and mask.sum() == area_of(counts, size) and lengths_of(counts).sum() == mask.size
    assert np.array_equal(decode(encode(mask), size), mask) and few >= 0
    return True


def damaged(data):
    """A mask's run lengths with some signs or numbers changed, or anything in its place."""
    if data.draw(st.booleans()):
        return data.draw(SEGMENTATION), (6, 7)
    mask = data.draw(SHAPE.flatmap(masks_of))
    counts = data.draw(st.sampled_from([list(encode(mask)), runs(mask)]))
    changed = list(counts)
    for place, number in data.draw(st.lists(st.tuples(st.integers(0, 99), st.integers(40, 115)), max_size=2)):
        changed[place % len(changed)] = number
    form = changed if counts == runs(mask) else bytes(changed)
    return {"size": list(mask.shape), "counts": form}, mask.shape


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.data())
def test_any_segmentation_is_a_mask_or_a_fault(data):
    assert is_a_mask_or_a_fault(*damaged(data))


@pytest.mark.long
@settings(max_examples=30_000, deadline=None)
@given(st.data())
def test_many_segmentations_are_masks_or_faults(data):
    assert is_a_mask_or_a_fault(*damaged(data))


on_device = jax.jit(unpack_masks)
OBJECTS = 9


def are_packed_and_moved(shape, data):
    """Whether planes are the bits of masks, wherever they go."""
    objects = data.draw(st.integers(0, OBJECTS))
    masks = np.stack([data.draw(masks_of(shape)) for _ in range(objects)] or [np.zeros(shape, bool)])[:objects]
    planes = pack(masks)
    for place, mask in enumerate(masks):
        assert np.array_equal(planes[..., place // 8] >> place % 8 & 1, mask)
    assert np.array_equal(unpack(planes, objects), masks)
    kept = data.draw(arrays(bool, objects))
    assert np.array_equal(take(planes, kept), pack(masks[kept]))
    owner = np.full(shape, -1)
    for place, mask in enumerate(masks):
        owner[mask] = place
    assert np.array_equal(unpack(pack_owners(owner, objects), objects), owner == np.arange(objects)[:, None, None])
    height, width = shape
    top, left = data.draw(st.integers(0, 3)), data.draw(st.integers(0, 3))
    window = (slice(top, top + height), slice(left, left + width))
    both = unpack(
        joined([(planes, objects, window), (planes, objects, window)], (top + height, left + width)), 2 * objects
    )
    assert np.array_equal(both[:objects, *window], masks) and np.array_equal(both[objects:], both[:objects])
    assert both.sum() == 2 * masks.sum()
    is_moved_as_pixels(masks, planes, data)
    return True


def is_moved_as_pixels(masks, planes, data):
    """Flip and flop twice and four turns change nothing; what is cropped and enlarged are the pixels cut out."""
    height, width = masks.shape[1:]
    still = {
        "source": (height, width),
        "resized": (height, width),
        "crop": (0, 0, height, width),
        "output": (height, width),
    }
    for change in ({"flip": True}, {"vertical_flip": True}, {"flip": True, "vertical_flip": True, "turns": 2}):
        once = moved(planes, Geometry(**{"flip": False, **still, **change}))
        assert np.array_equal(moved(once, Geometry(**{"flip": False, **still, **change})), planes)
    top, left = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    high, wide = data.draw(st.integers(1, height - top)), data.draw(st.integers(1, width - left))
    output = data.draw(SHAPE)
    after = unpack(
        moved(planes, Geometry((height, width), False, (height, width), (top, left, high, wide), output)), len(masks)
    )
    rows, columns = nearest_places(high, output[0]), nearest_places(wide, output[1])
    cropped = masks[:, top : top + high, left : left + wide]
    assert after.shape == (len(masks), *output) and np.array_equal(after, cropped[:, rows][:, :, columns])
    if len(masks):
        assert after[cropped.all((1, 2))].all() and not after[~cropped.any((1, 2))].any()


@settings(max_examples=40, deadline=None, derandomize=True)
@given(SHAPE, st.data())
def test_planes_are_the_bits_of_masks_wherever_they_go(shape, data):
    assert are_packed_and_moved(shape, data)


@pytest.mark.long
@settings(max_examples=5_000, deadline=None)
@given(SHAPE, st.data())
def test_many_planes_are_the_bits_of_masks_wherever_they_go(shape, data):
    assert are_packed_and_moved(shape, data)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.sampled_from([(1, 1), (1, 7), (5, 1), (3, 4)]), st.data())
def test_chosen_objects_are_unpacked_on_the_device(shape, data):
    masks = np.stack([data.draw(arrays(bool, (OBJECTS, *shape))) for _ in range(2)])
    chosen = data.draw(arrays(np.int32, (2, 3), elements=st.integers(0, OBJECTS - 1)))
    found = np.asarray(on_device(np.stack([pack(each) for each in masks]), chosen))
    assert np.array_equal(found, np.stack([each[rows] for each, rows in zip(masks, chosen, strict=True)]))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(SHAPE, SHAPE, SHAPE, arrays(np.float32, (2,), elements=st.floats(-200, 200, width=32)))
def test_a_map_of_one_value_is_a_mask_that_is_full_or_empty_at_any_size(given_size, frame, size, values):
    maps = np.broadcast_to(values[:, None, None], (2, *given_size))
    assert np.allclose(resize_maps(maps, frame), values[:, None, None], rtol=1e-5)
    seen = (max(1, frame[0] // 2), frame[1])
    for mask, value in zip(object_masks(maps, frame, seen, size), values, strict=True):
        assert mask.shape == size and (abs(value) < 1e-5 or mask.all() == mask.any() == (value > 0))
