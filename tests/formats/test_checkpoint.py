"""Which tensors of a checkpoint are the model's: averaged before last ones, without what wrappers put before names."""

from pathlib import Path

import numpy as np
import pytest

from vitjax.data.errors import DataError
from vitjax.formats.checkpoint import model_of

LAST = {"a.weight": np.zeros((2, 3)), "a.bias": np.zeros(2), "bn.running_mean": np.zeros(2)}
MEAN = {name: array + 1 for name, array in LAST.items()}


def read(**content):
    return model_of(Path("it.pth"), content)


def assert_same(found, wanted):
    assert found.keys() == wanted.keys()
    for name, array in wanted.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
def test_what_wrappers_put_before_all_names_goes(prefix):
    state = {f"{prefix}{name}": array for name, array in LAST.items()}
    assert_same(read(model=state).tensors, LAST)
    assert_same(read(state_dict=state | {"n_averaged": np.array(7)}).tensors, LAST)  # torch's AveragedModel
    some = state | {"head.weight": np.zeros(3)}
    assert_same(read(model=some).tensors, some)


@pytest.mark.parametrize(
    ("last", "average"),
    [
        ("state_dict", "state_dict_ema"),
        ("model", "model_ema"),
        ("model", "ema_model"),
        ("model", "ema"),
        ("state_dict", "ema_state_dict"),
        ("model_state_dict", "ema_model_state_dict"),
        ("student", "teacher"),
    ],
)
@pytest.mark.parametrize("deep", [False, True])
def test_averaged_weights_are_taken_and_it_is_said_which(last, average, deep):
    mean = {"module": {f"module.{name}": x for name, x in MEAN.items()}, "updates": 8} if deep else MEAN
    found = read(**{"epoch": 3, last: LAST, average: mean, "args": {"lr": 1.0}})
    assert_same(found.tensors, MEAN)
    assert found.notes == (f"note: the averaged weights (EMA) are taken, {average!r}, as in evaluation",)
    assert found.settings == {"lr": 1.0}


def test_averaged_weights_alone_are_weights():
    assert_same(read(model_ema=MEAN, epoch=1).tensors, MEAN)


def test_what_an_average_leaves_out_is_the_last():
    parameters = {name: array for name, array in MEAN.items() if "running" not in name}
    found = read(model=LAST, ema={"shadow": parameters, "decay": 0.9})
    assert_same(found.tensors, LAST | parameters)
    assert found.notes[0].endswith("1 arrays that it does not have are the last ones'")


@pytest.mark.parametrize(
    "other",
    [
        {"a.weight": np.ones((4, 3)), "a.bias": np.ones(4), "bn.running_mean": np.ones(2)},  # another size
        MEAN | {"b.weight": np.ones(3)},  # a teacher of more layers
        {f"layer{name.replace('.', '')}": x for name, x in [*MEAN.items()][:2]},  # names of another kind
    ],
)
def test_what_is_not_the_average_of_the_model_is_left(other):
    found = read(model=LAST, teacher=other)
    assert_same(found.tensors, LAST)
    assert "the last weights are taken" in found.notes[0] and "'teacher'" in found.notes[0]


def test_names_of_another_kind_for_the_same_arrays_are_the_average():
    mean = {f"model.{name}": array for name, array in MEAN.items()}
    assert_same(read(state_dict=LAST, model_ema=mean).tensors, mean)


def test_mmengine_saves_the_average_as_the_model():
    assert_same(read(state_dict=MEAN, ema_state_dict=LAST, message_hub={}).tensors, MEAN)


def test_without_an_average_nothing_is_said():
    found = read(model=LAST, ema=None, ema_decay=0.9, optimizer={"state": {}})
    assert found.notes == () and found.tensors.keys() == LAST.keys()


@pytest.mark.parametrize(
    "content",
    [{"state": {0: {"exp_avg": np.zeros(3)}}, "param_groups": [{"lr": 1.0}]}, {"optimizer": {"state": {}}, "epoch": 3}],
)
def test_the_state_of_an_optimizer_is_called_so(content):
    with pytest.raises(DataError, match="the state of an optimizer"):
        read(**content)


@pytest.mark.parametrize("content", [[np.zeros(3)], np.zeros(3), 3.0, "weights"])
def test_what_is_no_dictionary_is_told_how_to_be_saved(content):
    with pytest.raises(DataError, match=rf"but a {type(content).__name__}; with torch, save the model's state_dict"):
        model_of(Path("it.pth"), content)
