"""Numbers that follow from an experiment and its plan."""

import dataclasses
import types

import numpy as np
import pytest

from vitjax.tasks.detection import Detection
from vitjax.training.prepare import Prepared, count


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


def test_all_numbers_in_a_tree_are_counted():
    assert count({"a": np.zeros((2, 3)), "b": {"c": np.zeros(()), "d": np.zeros((0, 4))}}) == 7
