"""Plans: who is in each step, in which bucket; the same for all who ask."""

import pickle

import numpy as np
import pytest

from vitjax.data.errors import DataError
from vitjax.data.plan import EvaluationPlan, TrainPlan, deal, padding
from vitjax.data.transforms import Augmentation, Resize

SMALL = Augmentation(sizes=(40, 56, 72), max_side=128, crop_sizes=(50, 60), crop_range=(30, 60))


def photo_sizes(count, seed=0):
    """Sizes (height, width) as photographs on COCO have them: mostly 640 on the longer side, two thirds landscape."""
    rng = np.random.default_rng(seed)
    common = np.array([(480, 640), (427, 640), (640, 480), (640, 427), (375, 500), (500, 375), (640, 640), (360, 640)])
    sizes = common[rng.choice(8, count, p=[0.3, 0.23, 0.12, 0.1, 0.09, 0.05, 0.05, 0.06])]
    other = rng.random(count) < 0.2
    sizes[other, 0] = rng.integers(240, 641, other.sum())
    return sizes.astype(np.int32)


def same(one, other):
    """Whether two step plans are equal in everything."""
    geometries = zip(one.cuts, other.cuts, strict=True)
    return (
        one.bucket == other.bucket
        and np.array_equal(one.records, other.records)
        and all(ours == theirs for ours, theirs in geometries)
    )


def test_every_record_is_seen_once_in_an_epoch_and_few_are_dropped():
    plan = TrainPlan(photo_sizes(103), 8, SMALL)
    dropped = []
    for epoch in range(3):
        steps = range(epoch * plan.steps_per_epoch, (epoch + 1) * plan.steps_per_epoch)
        records = np.concatenate([plan(step).records for step in steps])
        assert len(records) == 96 and len(set(records.tolist())) == 96
        dropped.append(frozenset(range(103)) - set(records.tolist()))
    assert len(set(dropped)) == 3


def test_epochs_differ_in_order_and_in_geometry():
    plan = TrainPlan(photo_sizes(64), 8, SMALL)
    first, second = ([plan(epoch * 8 + step) for step in range(8)] for epoch in range(2))
    assert [s.records.tolist() for s in first] != [s.records.tolist() for s in second]
    by_record = [{int(r): s.cuts[i] for s in epoch for i, r in enumerate(s.records)} for epoch in (first, second)]
    assert sum(by_record[0][record] != by_record[1][record] for record in range(64)) > 50


def test_a_step_is_the_same_for_every_plan_that_is_asked_in_any_order():
    sizes = photo_sizes(70)
    plan, later = TrainPlan(sizes, 8, SMALL, seed=3), TrainPlan(sizes, 8, SMALL, seed=3)
    copied = pickle.loads(pickle.dumps(plan))
    in_order = [plan(step) for step in range(40)]
    assert all(same(in_order[step], later(step)) for step in (39, 24, 0, 17, 39, 8))
    assert all(same(in_order[step], copied(step)) for step in (8, 31))


def test_another_seed_gives_another_order():
    sizes = photo_sizes(70)
    assert not same(TrainPlan(sizes, 8, SMALL, seed=0)(0), TrainPlan(sizes, 8, SMALL, seed=1)(0))


def test_fewer_records_than_a_batch_are_repeated_with_other_geometries():
    plan = TrainPlan(photo_sizes(3), 8, SMALL)
    step = plan(5)
    assert plan.steps_per_epoch == 1 and sorted(np.bincount(step.records).tolist()) == [2, 3, 3]
    assert len({(int(r), step.cuts[i]) for i, r in enumerate(step.records)}) == 8


@pytest.mark.parametrize("max_buckets", [1, 3, 12])
def test_no_image_is_larger_than_its_bucket_and_buckets_are_of_the_ladder(max_buckets):
    plan = TrainPlan(photo_sizes(300), 8, SMALL, max_buckets=max_buckets)
    for step in range(2 * plan.steps_per_epoch):
        planned = plan(step)
        assert (planned.cuts.output <= planned.bucket).all() and planned.bucket in plan.buckets
    assert len(plan.buckets) <= max_buckets


def test_published_augmentation_on_photographs_wastes_at_most_a_fifth_in_twelve_buckets():
    plan = TrainPlan(photo_sizes(20000), 16, Augmentation())
    wasted = [padding(step.cuts.output, step.bucket) for step in map(plan, range(plan.steps_per_epoch))]
    assert len(plan.buckets) <= 12 and np.mean(wasted) <= 0.2
    # Landscape and portrait meet in one batch only where the leftovers of both do.
    assert sum(plan(step).bucket == plan.buckets[-1] for step in range(plan.steps_per_epoch)) <= 3


def between_steps(plan):
    """The share of the variance of the log area that lies between the steps of an epoch, and the padding."""
    parts = [plan(part) for part in range(plan.steps_per_epoch * plan.parts)]
    outputs = [part.cuts.output for part in parts]
    areas = np.log(np.concatenate(outputs).prod(1, dtype=np.float64)).reshape(plan.steps_per_epoch, -1)
    wasted = [padding(output, part.bucket) for output, part in zip(outputs, parts, strict=True)]
    return areas.mean(1).var() / areas.var(), np.mean(wasted)


def test_parts_with_buckets_of_their_own_make_steps_nearly_as_independent_as_one_bucket_does_and_pad_little():
    """Independent images of 64 have a 64th of the variance between steps."""
    sizes = photo_sizes(64 * 40)
    (alike, little), (mixed, as_little), (independent, much) = (
        between_steps(TrainPlan(sizes, 64, Augmentation(), **fields))
        for fields in ({}, {"parts": 8}, {"max_buckets": 1})
    )
    assert alike > 0.8 and mixed < 0.2 and independent < 0.03
    assert little < 0.2 and as_little < 0.2 and much > 0.4


def test_the_parts_of_an_epoch_see_every_record_once():
    plan = TrainPlan(photo_sizes(103), 8, SMALL, parts=4)
    steps = plan.steps_per_epoch * plan.parts
    records = np.concatenate([plan(part).records for part in range(steps, 2 * steps)])
    assert plan.steps_per_epoch == 12 and len(plan(0).records) == 2
    assert len(records) == 96 and len(set(records.tolist())) == 96


def test_images_of_one_size_are_never_padded():
    plan = TrainPlan(np.full((100, 2), 64, np.int32), 16, Augmentation(sizes=(), crop=0.0))
    assert plan.buckets == ((64, 64),) and all(plan(step).bucket == (64, 64) for step in range(20))


def test_batches_of_different_buckets_follow_each_other_in_random_order():
    plan = TrainPlan(photo_sizes(2000), 8, SMALL)
    areas = [np.prod(plan(step).bucket) for step in range(plan.steps_per_epoch)]
    rises = np.mean(np.diff(areas) > 0)
    assert 0.3 < rises < 0.6


@pytest.mark.parametrize("count", [0, 1, 7, 8, 61])
def test_evaluation_sees_every_record_once_and_fills_up_with_minus_one(count):
    plan = EvaluationPlan(photo_sizes(count), 8, Resize(size=48, max_side=80))
    records = np.concatenate([plan(step).records for step in range(len(plan))] or [np.zeros(0)])
    assert sorted(records[records >= 0].tolist()) == list(range(count))
    assert len(plan) == plan.length == -(-count // 8) and len(records) == 8 * len(plan)
    assert (np.diff(np.flatnonzero(records < 0)) == 1).all()


def test_evaluation_pads_little_and_keeps_to_its_buckets():
    plan = EvaluationPlan(photo_sizes(2000), 8, Resize())
    steps = [plan(step) for step in range(len(plan))]
    assert np.mean([padding(step.cuts.output, step.bucket) for step in steps]) < 0.1
    assert all((step.cuts.output <= step.bucket).all() and step.bucket in plan.buckets for step in steps)


def test_leftovers_move_up_to_a_bucket_that_holds_them():
    ladder = np.array([[1, 2], [2, 1], [2, 2]])
    outputs = np.array([[1, 2]] * 3 + [[2, 1]] * 3)
    batches, rungs = deal(outputs, ladder, 2)
    assert batches.tolist() == [[0, 1], [3, 4], [5, 2]] and rungs.tolist() == [0, 1, 2]


def test_leftovers_that_fit_together_go_back_to_a_smaller_bucket():
    ladder = np.array([[1, 1], [1, 2], [2, 3]])
    batches, rungs = deal(np.array([[1, 1], [1, 2], [1, 2], [1, 2]]), ladder, 4)
    assert sorted(batches[0].tolist()) == [0, 1, 2, 3] and rungs.tolist() == [1]


def test_padding_is_the_part_of_the_bucket_that_no_image_covers():
    assert padding(np.array([[10, 10], [10, 20]]), (10, 20)) == pytest.approx(0.25)


@pytest.mark.parametrize(("images", "most"), [(1, 1), (16, 1), (33, 2), (80, 5), (2000, 12)])
def test_a_size_is_compiled_for_two_batches_or_more_where_there_are_few(images, most):
    plan = EvaluationPlan(photo_sizes(images), 8, Resize(size=48, max_side=80))
    assert len(plan.buckets) <= most
    assert sorted(index for step in range(plan.length) for index in plan(step).records if index >= 0) == [
        *range(images)
    ]


@pytest.mark.parametrize("field", ["batch_size", "multiple", "max_buckets"])
def test_numbers_that_make_no_plan_are_refused(field):
    numbers = {"batch_size": 4, "multiple": 32, "max_buckets": 12, field: 0}
    with pytest.raises(ValueError, match=f"{field} is at least 1, got 0"):
        TrainPlan(photo_sizes(4), augmentation=SMALL, **numbers)
    with pytest.raises(ValueError, match=f"{field} is at least 1, got 0"):
        EvaluationPlan(photo_sizes(4), resize=Resize(), **numbers)


def test_no_images_to_train_on_is_said_plainly():
    with pytest.raises(DataError, match="no images to train on"):
        TrainPlan(np.zeros((0, 2), np.int32), 4, SMALL)
