"""Plans of one size: complete epochs, the same answer for whoever asks, crops that differ by epoch."""

import pickle

import numpy as np
import pytest

from vitjax.data.crop_plan import CropEvaluationPlan, CropTrainPlan
from vitjax.data.crops import CenterCrop, RandomCrop
from vitjax.data.errors import DataError
from vitjax.data.source import Sample, labelled

CROP = RandomCrop(size=24)


def image(seed=0, height=40, width=60):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


def test_an_epoch_has_every_record_once_in_an_order_of_its_own():
    plan = CropTrainPlan(12, 4, CROP)
    epochs = [np.concatenate([plan(step).records for step in range(first, first + 3)]) for first in (0, 3)]
    assert all(sorted(epoch) == list(range(12)) for epoch in epochs)
    assert epochs[0].tolist() != epochs[1].tolist()


def test_what_does_not_fill_a_batch_is_dropped_and_few_records_are_repeated():
    assert CropTrainPlan(11, 4, CROP).steps_per_epoch == 2
    few = CropTrainPlan(3, 8, CROP)
    assert few.steps_per_epoch == 1 and sorted(few(0).records)[::3] == [0, 1, 2]


def test_a_step_is_the_same_for_whoever_asks_and_after_pickling():
    plan = CropTrainPlan(12, 4, CROP, seed=3)
    other = pickle.loads(pickle.dumps(plan))
    sample = labelled(image(), 7)
    for step in (5, 0, 40):
        assert plan(step).records.tolist() == other(step).records.tolist()
        one, two = (p(step).cuts[2].apply(sample, "a.jpg").image for p in (plan, other))
        assert np.array_equal(one, two)


def test_crops_differ_by_row_by_epoch_and_by_seed():
    sample = labelled(image(), 7)
    plans = (CropTrainPlan(8, 4, CROP), CropTrainPlan(8, 4, CROP, seed=1))
    cuts = [plans[0](0).cuts[0], plans[0](0).cuts[1], plans[0](1).cuts[0], plans[0](2).cuts[0], plans[1](0).cuts[0]]
    assert len({cut.apply(sample, "a.jpg").image.tobytes() for cut in cuts}) == 5


def test_a_crop_keeps_the_label_and_its_object_is_all_of_the_crop():
    after = CropTrainPlan(1, 1, CROP)(0).cuts[0].apply(labelled(image(), 7), "a.jpg")
    assert after.image.shape == (24, 24, 3)
    assert after.labels.tolist() == [7] and after.boxes.tolist() == [[0, 0, 24, 24]]


def test_evaluation_has_every_record_in_order_and_fills_up_the_last_batch():
    plan = CropEvaluationPlan(5, 2, CenterCrop(size=24, resize=30))
    assert [plan(step).records.tolist() for step in range(plan.length)] == [[0, 1], [2, 3], [4, -1]]
    assert plan.buckets == ((24, 24),) and not plan(0).replaces
    bare = Sample(image(), np.zeros((0, 4), np.float32), np.zeros(0, np.int32))
    assert plan(0).cuts[0].apply(bare, "a.jpg").boxes.shape == (0, 4)


def test_no_images_no_plan():
    with pytest.raises(DataError, match="no images to train on"):
        CropTrainPlan(0, 4, CROP)
    with pytest.raises(ValueError, match="batch_size is at least 1, got 0"):
        CropEvaluationPlan(4, 0, CenterCrop())
