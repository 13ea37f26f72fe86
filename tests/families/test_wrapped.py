"""Published models under any name before theirs, beside losses and metrics, and beside their own averages."""

import dataclasses

import numpy as np
import pytest
from published import MODELS, file_of, tensors_of

from vitjax.checkpoints.paths import flatten
from vitjax.families.identify import identify
from vitjax.formats.tables import PublishedError, TensorFile
from vitjax.formats.tensor_files import write_tensors
from vitjax.runs.initial import read_weights

FILES = {name: file_of(model) for name, model in MODELS.items()}
STATES = {name: tensors_of(file) for name, file in FILES.items()}
BESIDE = {
    "criterion.empty_weight": np.ones(92),
    "loss.weight": np.ones(1),
    "loss_fn.pos_weight": np.ones(1),
    "val_map.total": np.ones(1),
    "train_metrics.acc.tp": np.ones(1),
    "metric.sum": np.ones(1),
}


def under(prefix, state):
    return {f"{prefix}{name}": tensor for name, tensor in state.items()}


def assert_same(found, name):
    assert found.model == FILES[name].model
    for path, array in flatten(FILES[name].variables).items():
        np.testing.assert_array_equal(flatten(found.variables)[path], array, err_msg=path)


@pytest.mark.parametrize("name", STATES)
@pytest.mark.parametrize("prefix", ["model.", "detector.", "net.module.", "model._orig_mod.", "a.b.c."])
def test_what_stands_before_all_names_is_taken_off(prefix, name):
    found = identify(TensorFile(under(prefix, STATES[name]), {}))
    assert_same(found, name)
    assert not any("left" in note or "taken" in note for note in found.notes)


@pytest.mark.parametrize("name", ["detr", "deformable, refining", "resnet"])
@pytest.mark.parametrize("prefix", ["model.", ""])
def test_losses_and_metrics_beside_the_model_are_left_behind_and_counted(prefix, name):
    found = identify(TensorFile(under(prefix, STATES[name]) | BESIDE, {}))
    assert_same(found, name)
    assert found.notes[0] == "note: 6 tensors beside the model are left behind"


@pytest.mark.parametrize("average", ["model_ema.module.", "ema.", "ema_model.", "teacher."])
def test_an_average_in_the_same_dictionary_is_taken(average):
    last = {name: tensor - 1 for name, tensor in STATES["detr"].items()}
    for mixed in ((last, "model.", average), (last, "student.", average)):
        state = under(mixed[1], mixed[0]) | under(average, STATES["detr"])
        found = identify(TensorFile(state, {}))
        assert_same(found, "detr")
        word = average if average.count(".") == 1 else "model_ema.module."
        assert (
            found.notes[0]
            == f"note: the averaged weights (EMA) under {word!r} are taken, and not those under {mixed[1]!r}"
        )


def test_counters_of_an_average_are_left_behind():
    state = under("model.", STATES["detr"]) | {"ema.n_averaged": np.array(3)} | under("ema.module.", STATES["detr"])
    found = identify(TensorFile(state, {}))
    assert_same(found, "detr")
    assert found.notes[0] == "note: 1 tensors beside the model are left behind"


def test_a_detector_that_is_called_detr_has_no_masks():
    assert_same(identify(TensorFile(under("detr.", STATES["detr"]), {})), "detr")


def test_a_tensor_that_is_of_nothing_is_still_an_error():
    state = under("model.", STATES["detr"]) | {"projector.weight": np.ones(2)}
    with pytest.raises(PublishedError, match=r"without a place here \(1\): projector\.weight"):
        identify(TensorFile(state, {}))


def test_weights_to_start_from_are_read_in_the_same_way(tmp_path):
    write_tensors(tmp_path / "backbone.safetensors", under("encoder.", STATES["resnet"]) | BESIDE)
    found = read_weights(tmp_path / "backbone.safetensors")
    wanted = flatten(FILES["resnet"].variables)
    assert flatten(found.variables).keys() == wanted.keys() and "left behind" in found.notes[0]


def test_notes_of_the_file_are_those_of_the_model():
    file = TensorFile(STATES["resnet"], {}, notes=("note: it is so",))
    assert identify(file).notes == ("note: it is so",)
    assert identify(dataclasses.replace(file, notes=())).notes == ()
