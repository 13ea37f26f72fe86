"""One reading of what people name, whether a model is used or weights are started from."""

import dataclasses
import importlib
import shutil

import numpy as np
import pytest

from vitjax.checkpoints.store import Store
from vitjax.classification.recurrent_attention import RecurrentAttention
from vitjax.data.errors import DataError
from vitjax.data.label_names import numbered
from vitjax.export.convert import write_run_folder
from vitjax.families.huggingface import hub
from vitjax.families.known import family_of
from vitjax.families.model_file import ModelFile
from vitjax.runs.initial import read_weights
from vitjax.runs.read_model import find, read_model
from vitjax.tasks.load import load


def value(variables):
    return variables["params"]["mine"][0]


@pytest.fixture
def run(tmp_path):
    """A run of two checkpoints, 0 and 7."""
    model = RecurrentAttention(num_classes=2)
    family = family_of(model)
    variables = {"params": {"mine": np.zeros(3, np.float32)}}
    write_run_folder(ModelFile(model, variables, numbered(2), family.resize(), family.postprocess()), tmp_path / "run")
    with Store(tmp_path / "run" / "checkpoints", keep_last=2) as store:
        store.save(7, {"trainable": {"mine": np.full(3, 7, np.float32)}, "frozen": {}, "constants": {}})
    return tmp_path / "run"


def test_of_a_run_the_asked_checkpoint_is_read_and_one_that_is_not_there_is_refused(run):
    last = read_model(run, step=7)
    assert (value(last.variables), last.step) == (7, 7)
    with pytest.raises(DataError, match=r"has no checkpoint of step 3; there are: .*7"):
        read_model(run, step=3)


def test_the_path_of_a_checkpoint_gives_that_one_with_and_without_its_experiment(run):
    places = {step: run / "checkpoints" / str(step) for step in (0, 7)}
    for step, place in places.items():
        found = read_model(place)
        assert (value(found.variables), found.step) == (step, step) and value(read_weights(place).variables) == step
    (run / "experiment.json").unlink()
    assert [value(read_weights(place).variables) for place in places.values()] == [0, 7]


def test_both_readings_take_the_same_checkpoint(run):
    assert value(read_model(run).variables) == value(read_weights(run).variables)


@pytest.mark.parametrize("read", [read_model, read_weights])
def test_a_folder_of_nothing_and_a_name_of_nothing_are_told_alike(read, tmp_path):
    with pytest.raises(DataError, match=r"is neither a run folder nor one with config\.json and weights"):
        read(tmp_path)
    with pytest.raises(DataError, match=r"there is no .*weights\.pth; give a run folder, a \.pth"):
        read(tmp_path / "weights.pth")


def test_a_mistyped_run_gets_the_nearest_name_and_no_advice_to_install_anything(run):
    for wrong in (run.with_name("rnu"), run.parent / "nothing"):
        with pytest.raises(DataError, match=f"there is no {wrong}") as caught:
            find(wrong)
        assert "huggingface_hub" not in str(caught.value) and str(run) in str(caught.value)
    with pytest.raises(DataError, match=r"The runs in .* are .*/run\."):
        find(run.parent)
    with pytest.raises(DataError, match=r"no checkpoint of step 3\. Did you mean .*/run\?"):
        read_model(run.with_name("rnu"), step=3)


def test_weights_that_pip_installs_are_found_beside_a_run_of_a_similar_name(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(run, tmp_path / "runs" / "efficientnet_lite0_finetune")
    reading = importlib.import_module("vitjax.runs.read_model")
    monkeypatch.setattr(reading, "installed", lambda name: tmp_path / name)
    assert find("efficientnet-lite0") == ("file", tmp_path / "efficientnet-lite0", None)


def test_the_name_of_a_repository_beside_similar_folders_stays_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "facebook/detr-resnet-50-panoptic").mkdir(parents=True)
    monkeypatch.setattr(hub, "fetch", lambda name: tmp_path / name)
    assert find("facebook/detr-resnet-50") == ("huggingface", tmp_path / "facebook/detr-resnet-50", None)


def test_only_runs_have_steps(tmp_path):
    with pytest.raises(DataError, match="is not a run folder, so it has no checkpoint of step 3"):
        read_model(tmp_path, step=3)


def test_checkpoints_alone_are_weights_and_no_model(run):
    (run / "experiment.json").unlink()
    assert find(run).kind == "run" and read_weights(run).classes is None
    with pytest.raises(DataError, match=r"it has no experiment\.json"):
        read_model(run)


def test_a_run_is_used_with_the_precision_that_it_was_trained_with(run, tmp_path):
    file = dataclasses.replace(read_model(run), matmul_precision="highest")
    write_run_folder(file, tmp_path / "precise")
    assert [read_model(each).matmul_precision for each in (run, tmp_path / "precise")] == ["default", "highest"]
    assert load(tmp_path / "precise").precision == "highest"
    assert load(tmp_path / "precise", matmul_precision="high").precision == "high"
