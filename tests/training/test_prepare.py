"""Numbers that follow from an experiment and its plan."""

import dataclasses
import types

import numpy as np
import pytest

from vitjax.backbones.resnet import ResNet
from vitjax.checkpoints.paths import flatten
from vitjax.classification.classifier import Classifier
from vitjax.errors import FieldError
from vitjax.runs.numbers import require_class_weights
from vitjax.tasks.detection import Detection
from vitjax.training.prepare import Prepared, count
from vitjax.training.state import initial_variables


def prepared(steps_per_epoch=10, **fields):
    """As much of what is prepared as numbers follow from."""
    nothing = dict.fromkeys(field.name for field in dataclasses.fields(Prepared))
    plan = types.SimpleNamespace(steps_per_epoch=steps_per_epoch)
    return Prepared(**nothing | {"plan": plan, "experiment": Detection(**fields)})


@pytest.mark.parametrize(("epochs", "steps"), [(1, 10), (0.26, 3), (0.34, 3), (2.5, 25), (0.01, 1)])
def test_so_many_epochs_are_the_nearest_number_of_steps_and_at_least_one(epochs, steps):
    assert prepared().every(epochs) == steps


def test_evaluation_has_batches_of_its_own_size_or_those_of_training():
    assert prepared(batch_size=6).evaluation_batch_size == 6
    assert prepared(batch_size=6, evaluation_batch_size=3).evaluation_batch_size == 3


@pytest.mark.parametrize(("most", "images", "places"), [(3, 4, 12), (0, 1, 1)])
def test_there_are_places_for_the_objects_of_every_image_of_a_mosaic(most, images, places):
    run, source = prepared(), types.SimpleNamespace(max_objects=most)
    run.plan.images_in_one = images
    assert dataclasses.replace(run, train_source=source).max_objects == places


def test_all_numbers_in_a_tree_are_counted():
    assert count({"a": np.zeros((2, 3)), "b": {"c": np.zeros(()), "d": np.zeros((0, 4))}}) == 7


def test_some_variables_are_drawn_as_they_are_among_all():
    model = Classifier(ResNet(18, width=8, stage_blocks=(1,), norm="batch"), num_classes=3, norm=False)
    whole = flatten(initial_variables(model, 5, side=32))
    paths = {"params/head/kernel", "params/backbone/stem_conv/kernel", "batch_stats/backbone/stem_norm/mean"}
    some = flatten(initial_variables(model, 5, side=32, only=paths))
    assert some.keys() == paths and all(np.array_equal(some[path], whole[path]) for path in paths)


@pytest.mark.parametrize("weights", [(1.0, 2.0), (1.0, -1.0, 1.0), (0.0, 0.0, 0.0), (1.0, float("nan"), 1.0)])
def test_class_weights_are_one_for_each_class(weights):
    require_class_weights(None, 3)
    require_class_weights((0.0, 1.0, 2), 3)
    with pytest.raises(FieldError, match="class_weights"):
        require_class_weights(weights, 3)
