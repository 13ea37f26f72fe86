"""Packed masks against masks that are moved one by one, as the published transforms do it."""

import dataclasses

import cloudpickle
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from vitjax.data.augmentation_parts import Cutout, LargeScaleJitter, Mosaic
from vitjax.data.digit_masks import DigitMasks
from vitjax.data.digits import Digits
from vitjax.data.errors import DataError
from vitjax.data.geometry import Geometry
from vitjax.data.loader import batches, load
from vitjax.data.mask_source import PanopticSource
from vitjax.data.masks import boxes_of, moved, nearest_places, pack, pack_owners, take, unpack
from vitjax.data.plan import EvaluationPlan, TrainPlan
from vitjax.data.source import Sample
from vitjax.data.transforms import Augmentation, Resize, draw
from vitjax.ops.masks import nearest_rows
from vitjax.ops.packed_masks import unpack_masks

SIDE = st.integers(1, 12)
SCENES = DigitMasks(height=48, width=40, min_size=16, max_size=24, val_images=6)


def masks(objects, height, width, seed=0):
    return np.random.default_rng(seed).random((objects, height, width)) < 0.4


@settings(deadline=None, max_examples=30)
@given(st.tuples(st.integers(0, 20), SIDE, SIDE).flatmap(lambda shape: arrays(bool, shape)), st.data())
def test_what_is_packed_comes_back_and_closes_up_where_objects_go(given_masks, data):
    planes = pack(given_masks)
    assert planes.shape == (*given_masks.shape[1:], -(-len(given_masks) // 8))
    assert np.array_equal(unpack(planes, len(given_masks)), given_masks)
    kept = data.draw(arrays(bool, len(given_masks)))
    assert np.array_equal(take(planes, kept), pack(given_masks[kept]))
    owner = np.where(given_masks.any(0), given_masks.argmax(0), -1) if len(given_masks) else np.full((3, 2), -1)
    alone = owner == np.arange(len(given_masks))[:, None, None]
    assert np.array_equal(pack_owners(owner, len(given_masks)), pack(alone.reshape(-1, *owner.shape)))


def step_by_step(mask, geometry):
    """The published transforms, one after the other: every pixel takes the one at floor(place * scale)."""

    def resized(mask, size):
        rows, columns = (nearest_rows(old, new) for old, new in zip(mask.shape, size, strict=True))
        return np.array([[mask[row, column] for column in columns] for row in rows])

    mask = mask[:, ::-1] if geometry.flip else mask
    top, left, height, width = geometry.crop
    return resized(resized(mask, geometry.resized)[top : top + height, left : left + width], geometry.output)


@settings(deadline=None, max_examples=40)
@given(SIDE, SIDE, st.booleans(), st.tuples(SIDE, SIDE), st.tuples(SIDE, SIDE), st.data())
def test_masks_go_as_the_published_transforms_take_them(height, width, flip, resized, output, data):
    crop_h, crop_w = (data.draw(st.integers(1, side)) for side in resized)
    top, left = (data.draw(st.integers(0, side - part)) for side, part in zip(resized, (crop_h, crop_w), strict=True))
    geometry = Geometry((height, width), flip, resized, (top, left, crop_h, crop_w), output)
    before = masks(3, height, width)
    expected = np.array([step_by_step(mask, geometry) for mask in before])
    assert np.array_equal(unpack(moved(pack(before), geometry), 3), expected)


def test_the_nearest_pixel_is_that_of_feature_maps_too():
    pairs = np.random.default_rng(0).integers(1, 2000, (300, 2)).tolist()
    assert all(np.array_equal(nearest_places(*pair), nearest_rows(*pair)) for pair in pairs)


def test_objects_go_with_their_boxes_and_an_empty_mask_stays_with_its_box():
    """As published, a crop keeps the objects of which it keeps a part of the box."""
    before = np.zeros((3, 10, 10), bool)
    before[0, :3, :3] = before[1, 0, 0] = before[2, 6:, 6:] = True
    boxes = np.array([[0, 0, 3, 3], [0, 0, 10, 10], [6, 6, 10, 10]], np.float32)
    sample = Sample(np.zeros((10, 10, 3), np.uint8), boxes, np.arange(3, dtype=np.int32), masks=pack(before))
    after = Geometry((10, 10), False, (10, 10), (5, 5, 5, 5), (10, 10)).apply(sample)
    assert after.labels.tolist() == [1, 2] and after.boxes.tolist() == [[0, 0, 10, 10], [2, 2, 10, 10]]
    vanished, seen = unpack(after.masks, 2)
    assert not vanished.any() and seen[2:, 2:].all() and seen.sum() == 64


@settings(deadline=None, max_examples=40)
@given(SIDE, SIDE, st.booleans(), st.booleans(), st.integers(0, 3), st.tuples(SIDE, SIDE), st.data())
def test_masks_turn_and_stand_on_a_canvas_as_the_image_does(height, width, flip, flop, turns, canvas, data):
    size = (width, height) if turns % 2 else (height, width)
    crop_h, crop_w = (data.draw(st.integers(1, min(sides))) for sides in zip(size, canvas, strict=True))
    top, left = (data.draw(st.integers(0, side - part)) for side, part in zip(size, (crop_h, crop_w), strict=True))
    place = tuple(data.draw(st.integers(0, side - part)) for side, part in zip(canvas, (crop_h, crop_w), strict=True))
    geometry = Geometry((height, width), flip, size, (top, left, crop_h, crop_w), canvas, flop, turns, place)
    before = masks(3, height, width)
    image = np.where(np.moveaxis(before, 0, -1), np.uint8(255), np.uint8(0))
    sample = Sample(image, np.array([[0, 0, width, height]] * 3, np.float32), np.arange(3, dtype=np.int32))
    after = geometry.apply(dataclasses.replace(sample, masks=pack(before)))
    assert np.array_equal(unpack(after.masks, 3), np.moveaxis(after.image == 255, -1, 0))


@pytest.mark.parametrize("part", ["mosaic", "large_scale_jitter", "cutout"])
def test_every_mask_lies_in_its_box_whatever_is_done_to_the_image(part):
    source = DigitMasks(height=64, width=64, train_images=12).open("train")
    kind = {"mosaic": Mosaic(1.0), "large_scale_jitter": LargeScaleJitter(1.0), "cutout": Cutout(1.0)}[part]
    augmentation = Augmentation(sizes=(), max_side=None, crop=0.0, turn=0.5, vertical_flip=0.5, **{part: kind})
    plan = TrainPlan(source.sizes, 6, augmentation)
    seen = 0
    for step in range(2):
        batch = load(source, plan(step), max_objects=source.max_objects * plan.images_in_one)
        for row in range(6):
            held = batch.targets.valid[row]
            found = boxes_of(unpack(batch.masks[row], len(held)))
            sides = np.tile(batch.sizes[row][::-1], 2)
            centre, half = batch.targets.boxes[row, :, :2], batch.targets.boxes[row, :, 2:] / 2
            told = np.concatenate([centre - half, centre + half], 1) * sides
            there = held & found.any(1)
            beyond = (told - found) * [1, 1, -1, -1]
            assert beyond[there].max(initial=0) < 1.5 and not found[~held].any()
            seen += (np.abs(beyond[there]).max(1) < 1.5).sum()
    assert seen > 10


@settings(deadline=None, max_examples=20)
@given(arrays(bool, (2, 5, 6)))
def test_boxes_hold_every_pixel_of_a_mask(given_masks):
    for mask, (left, top, right, bottom) in zip(given_masks, boxes_of(given_masks), strict=True):
        rows, columns = np.nonzero(mask)
        holds = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) if len(rows) else (0, 0, 0, 0)
        assert (left, top, right, bottom) == holds


def test_a_batch_has_the_masks_of_its_objects_and_nothing_on_padding():
    source = SCENES.open("val")
    plan = EvaluationPlan(source.sizes, 3, Resize(32, None), multiple=32)
    for batch in batches(source, plan, max_objects=9):
        assert batch.masks.shape == (3, 64, 32, 2) and batch.masks.dtype == np.uint8
        assert not batch.masks[:, 38:].any()
        chosen = np.tile(np.arange(9), (3, 1))
        unpacked = np.asarray(unpack_masks(jnp.asarray(batch.masks), jnp.asarray(chosen[:, ::-1])))[:, ::-1]
        for row, record in enumerate(batch.records):
            sample = plan(0).cuts[0].apply(source[int(record)])
            objects = len(sample.labels)
            assert np.array_equal(unpacked[row, :objects, :38], unpack(sample.masks, objects))
            assert not unpacked[row, objects:].any() and batch.targets.valid[row].sum() == objects


def test_what_has_no_masks_pays_nothing_for_them():
    source = Digits(val_images=2).open("val")
    (batch,) = batches(source, EvaluationPlan(source.sizes, 2, Resize(None)), max_objects=3)
    assert batch.masks is None and source[0].masks is None


def test_digits_lie_where_they_always_did_on_papers_that_share_the_rest():
    plain, source = Digits(height=48, width=40, min_size=16, max_size=24, val_images=6).open("val"), SCENES.open("val")
    source = cloudpickle.loads(cloudpickle.dumps(source))
    assert isinstance(source, PanopticSource) and source.classes.stuff == (10, 11, 12) and source.max_objects == 5
    papers = set()
    for record in range(len(source)):
        sample, scene, found = source[record], plain.scene(record), source.panoptic(record)
        digits = int((found.labels < 10).sum())
        assert np.array_equal(sample.labels, found.labels) and np.array_equal(
            sample.labels[:digits], plain[record].labels
        )
        assert np.array_equal(sample.boxes[:digits], plain[record].boxes)
        ink = found.owner < digits
        assert np.array_equal(ink, scene.owner >= 0) and np.array_equal(sample.image[ink], scene.image[ink])
        own = unpack(sample.masks, len(found.labels))
        assert (own.sum(0) == 1).all() and np.array_equal(own.argmax(0), found.owner)
        assert np.array_equal(sample.boxes, boxes_of(own)) and 1 <= len(found.labels) - digits <= 2
        papers |= set(found.labels[digits:].tolist())
    assert papers == {10, 11, 12}
    truth = source.mask_truth()["annotations"]
    assert [{**row, "segmentation": 0} for row in truth] == [
        {**row, "segmentation": 0} for row in source.ground_truth()["annotations"]
    ]
    assert {row["category_id"] for row in truth} <= set(range(1, 11)) and truth[0]["segmentation"]["size"] == [48, 40]
    assert DigitMasks(masks=False).open("val")[0].masks is None
    with pytest.raises(DataError, match="period >= 2"):
        DigitMasks(period=1).open("val")


def test_a_random_crop_of_a_scene_keeps_masks_and_boxes_together():
    source = SCENES.open("train")
    geometries = draw(
        Augmentation(sizes=(30,), crop=1.0, crop_sizes=(), crop_range=(16, 24)),
        np.random.default_rng(0),
        source.sizes[:20],
    )
    for record in range(20):
        sample = geometries[record].apply(source[record])
        around = boxes_of(unpack(sample.masks, len(sample.labels)))
        there = around.any(1)
        assert there.any() and (np.abs(around - sample.boxes)[there] <= 2.5).mean() > 0.5
        assert (around[:, :2] >= sample.boxes[:, :2] - 2).all() or not there.all()
