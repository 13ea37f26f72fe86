import numpy as np
import pytest

from vitjax.data.balance import class_shares, first_labels, present_classes, repeat_factors
from vitjax.data.crop_plan import CropTrainPlan
from vitjax.data.crops import RandomCrop
from vitjax.data.digit_images import DigitImages
from vitjax.data.digit_maps import DigitMaps, DigitMapScenes
from vitjax.data.digits import Digits
from vitjax.data.errors import DataError
from vitjax.data.plan import TrainPlan, shuffled
from vitjax.data.transforms import Augmentation


def test_an_image_comes_as_often_as_its_rarest_class_asks_for():
    """Of 8 images all have class 0, two class 1, one class 2, none class 3; one image more has no objects."""
    present = np.zeros((9, 4), bool)
    present[:8, 0] = present[:2, 1] = present[0, 2] = True
    factors = repeat_factors(present, 0.5)
    np.testing.assert_allclose(factors, [np.sqrt(0.5 * 9), np.sqrt(0.5 * 9 / 2), *[1.0] * 7])
    assert repeat_factors(present, 0.01).tolist() == [1.0] * 9 and repeat_factors(present[:, :0], 0.5).max() == 1


@pytest.mark.parametrize(("balance", "shares"), [(1.0, [0.5, 0.5]), (0.5, [2 / 3, 1 / 3]), (0.0, [0.8, 0.2])])
def test_classes_come_in_proportion_to_a_power_of_their_number(balance, shares):
    labels = np.array([0] * 80 + [1] * 20)
    weights = class_shares(labels, balance)
    np.testing.assert_allclose([weights[labels == label].sum() / weights.sum() for label in (0, 1)], shares)


def test_each_record_comes_its_share_rounded_up_or_down_and_on_average_exactly():
    weights = np.array([1.0, 1.0, 4.0, 0.5, 0.0])
    draws = [np.bincount(shuffled(np.random.default_rng(i), 5, 11, weights), minlength=5) for i in range(4000)]
    wanted = 11 * weights / weights.sum()
    assert np.all(np.sum(draws, 1) == 11)
    assert np.all((np.floor(wanted) <= draws) & (draws <= np.ceil(wanted)))
    np.testing.assert_allclose(np.mean(draws, 0), wanted, atol=0.03)


def test_plans_with_weights_keep_their_length_and_depend_on_the_step_alone():
    sizes, weights = np.full((40, 2), 64), np.where(np.arange(40) < 4, 9.0, 1.0)
    for make in (
        lambda: TrainPlan(sizes, 8, Augmentation(sizes=(64,), max_side=64), weights=weights),
        lambda: CropTrainPlan(40, 8, RandomCrop(8), weights=weights),
    ):
        plan, later = make(), make()
        epochs = [np.concatenate([plan(5 * epoch + step).records for step in range(5)]) for epoch in range(2)]
        assert plan.steps_per_epoch == 5 and all((epoch < 4).sum() in range(18, 22) for epoch in epochs)
        assert later(7).records.tolist() == plan(7).records.tolist() and epochs[0].tolist() != epochs[1].tolist()


def test_labels_are_told_by_every_kind_of_source():
    scenes = Digits(train_images=6).open("train")
    present = present_classes(scenes)
    assert [set(np.flatnonzero(row)) for row in present] == [set(scenes[i].labels) for i in range(6)]
    digits = DigitImages().open("val")
    assert first_labels(digits).tolist() == digits.labels.tolist()
    maps = Torn(DigitMaps(train_images=3), "train")
    of_maps = [set(np.flatnonzero(row)) for row in present_classes(maps)]
    assert of_maps == [set(np.unique(maps.label_map(0))), set(), set(np.unique(maps.label_map(2))) - {255}]


class Torn(DigitMapScenes):
    """Scenes of which one cannot be read, and one has a pixel without a label."""

    def label_map(self, record):
        if record == 1:
            raise DataError("no such map")
        labels = super().label_map(record).copy()
        labels[0, 0] = 255 if record == 2 else labels[0, 0]
        return labels
