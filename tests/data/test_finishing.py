"""Holes, and mosaics in batches: the same for all who ask, and nothing where it is switched off."""

import dataclasses

import cloudpickle
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from painted import Few, painted

from vitjax.data.augmentation_parts import ColorJitter, Cutout, LargeScaleJitter, Mosaic, ScaleJitter
from vitjax.data.finishing import cut_out
from vitjax.data.geometry import FILL, Geometries
from vitjax.data.loader import batches, load
from vitjax.data.plan import TrainPlan
from vitjax.data.source import NO_LABEL
from vitjax.data.transforms import Augmentation

PARTS = {
    "scale_jitter": ScaleJitter(0.5),
    "large_scale_jitter": LargeScaleJitter(0.3, (0.5, 2.0)),
    "mosaic": Mosaic(0.5, size=48),
    "color_jitter": ColorJitter(0.7),
    "cutout": Cutout(0.5),
    "turn": 0.5,
    "vertical_flip": 0.5,
}
PLAIN = {"sizes": (40, 56), "max_side": 90, "crop": 0.3, "crop_sizes": (50,), "crop_range": (30, 60)}


def few(count=13, broken=()):
    rng = np.random.default_rng(0)
    samples = [painted(rng.integers(30, 80, 2), (3, 4, 20, 25), record % 4, mapped=True) for record in range(count)]
    for sample in samples:
        sample.image[...] = np.maximum(sample.image, rng.integers(0, 100, sample.image.shape, dtype=np.uint8))
    return Few(None if record in broken else sample for record, sample in enumerate(samples))


def plan_of(source, batch_size=4, parts=1, **fields):
    return TrainPlan(source.sizes, batch_size, Augmentation(**PLAIN, **fields), 3, max_buckets=3, parts=parts)


def same(one, other):
    pairs = [(getattr(one, field.name), getattr(other, field.name)) for field in dataclasses.fields(one)]
    targets = dataclasses.astuple(one.targets), dataclasses.astuple(other.targets)
    return all(np.array_equal(a, b) for a, b in (*pairs[:2], *pairs[3:], *zip(*targets, strict=True)))


def test_all_together_are_the_same_for_workers_after_a_restart_and_in_a_copy():
    source = few()
    plan, copy, third = (plan_of(source, parts=2, **PARTS) for _ in range(3))
    copy = cloudpickle.loads(cloudpickle.dumps(copy))
    whole = list(batches(source, plan, max_objects=4, steps=9))
    restarted = list(batches(source, copy, max_objects=4, start_step=4, steps=5))
    worked = list(batches(source, third, max_objects=4, start_step=6, steps=3, workers=1))
    assert all(same(*pair) for pair in zip(whole[4:], restarted, strict=True))
    assert all(same(*pair) for pair in zip(whole[6:], worked, strict=True))
    assert not same(whole[0], whole[3]) and {batch.pixels.shape[1:3] for batch in whole} <= set(plan.buckets)
    assert all(np.array_equal(batch.sizes, plan(step).cuts.output) for step, batch in enumerate(whole))


def test_hosts_share_a_batch_of_mosaics():
    source = few()
    step = plan_of(source, **PARTS)(1)
    whole, halves = (
        load(source, step, max_objects=4),
        [load(source, step, max_objects=4, host=i, hosts=2) for i in (0, 1)],
    )
    assert np.array_equal(whole.pixels, np.concatenate([half.pixels for half in halves]))


def test_what_never_happens_leaves_batches_as_they_are():
    source = few()
    off = {name: dataclasses.replace(PARTS[name], probability=0.0) for name in list(PARTS)[:5]}
    plan, plain = plan_of(source, **off), plan_of(source)
    assert isinstance(plan(0).cuts, Geometries) and plan.images_in_one == 1 and plan.buckets == plain.buckets
    for step in (0, 4):
        assert same(*(load(source, each(step), max_objects=1) for each in (plan, plain)))


def test_every_image_has_colours_of_its_own_and_others_in_the_next_epoch():
    source = Few([painted((40, 40), (0, 0, 40, 40))] * 4)
    plan = TrainPlan(source.sizes, 4, Augmentation(sizes=(), crop=0.0, color_jitter=ColorJitter(1.0)))
    colors = [tuple(image[0, 0]) for step in (0, 1) for image in load(source, plan(step), max_objects=1).pixels]
    assert len(set(colors)) == 8


def test_one_augmentation_does_not_change_what_another_draws():
    source = few(40)
    one, both = plan_of(source, 40, vertical_flip=0.5)(0).cuts, plan_of(source, 40, vertical_flip=0.5, turn=0.5)(0).cuts
    assert sorted(zip(one.vertical_flip, one.flip, strict=True)) == sorted(
        zip(both.vertical_flip, both.flip, strict=True)
    )


def test_a_mosaic_has_the_objects_of_four_images_and_room_for_them():
    source = few()
    plan = plan_of(source, mosaic=Mosaic(1.0, (0.4, 0.5)))
    counts = [load(source, plan(step), max_objects=plan.images_in_one).targets.valid.sum(1) for step in range(4)]
    assert plan.images_in_one == 4 and np.max(counts) == 4 and np.mean(counts) > 3


def test_a_quarter_that_cannot_be_read_is_grey_and_told():
    source, whole = few(3, broken=(1,)), few(3)
    plan = plan_of(whole, 1, mosaic=Mosaic(1.0, (1.0, 1.0)))
    planned = [plan(step) for step in range(12)]
    told = [step for step in planned if step.records[0] != 1 and 1 in [record for record, _ in step.cuts[0].others]]
    one, other = (load(which, told[0], max_objects=4) for which in (source, whole))
    changed = (one.pixels != other.pixels).any(-1)
    assert one.broken.tolist() == [1] and other.broken.tolist() == [-1]
    assert changed.any() and (one.pixels[changed] == FILL).all() and (one.label_maps[changed] == NO_LABEL).all()


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**31), st.sampled_from([0.0, 0.3, 1.0]))
def test_holes_are_grey_rectangles_and_hide_whole_objects(seed, least):
    before = painted((50, 60), (22, 18, 31, 26), mapped=True)
    after = cut_out(before, Cutout(1.0, holes=6, sides=(0.1, 0.6)), np.random.default_rng(seed), least)
    hidden = (after.image == FILL).all(-1)
    assert hidden.any() and np.array_equal(after.image[~hidden], before.image[~hidden])
    assert (after.label_map[hidden] == NO_LABEL).all() and np.array_equal(
        after.label_map == 0, (before.label_map == 0) & ~hidden
    )
    seen = 1 - hidden[18:26, 22:31].mean()
    assert len(after.boxes) == len(after.labels) == int(seen >= least)
    assert np.array_equal(after.boxes, before.boxes[: len(after.boxes)]) and (before.image != FILL).any(-1).all()
