import dataclasses
import errno
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

import vitjax
from vitjax.checkpoints.folders import read_record, write_record
from vitjax.checkpoints.store import Store
from vitjax.data.errors import DataError
from vitjax.data.source import Classes
from vitjax.detection.deformable_detr import DeformableDETR
from vitjax.detection.focal_loss import FocalSetLoss
from vitjax.detection.postprocess import TopDetections
from vitjax.runs.configs import load_config
from vitjax.runs.initial import read_weights
from vitjax.runs.read_model import read_model
from vitjax.runs.run_folder import read_run, run_and_step, write_run
from vitjax.tasks.detection import Detection

DEFORMABLE = Detection(model=DeformableDETR(refine=True), loss=FocalSetLoss(), postprocess=TopDetections(k=7))
CLASSES = Classes(("cat", "dog"), (3, 5))
BEFORE = Path(__file__).parent / "before"


def test_an_experiment_comes_back_from_its_run_folder(tmp_path):
    write_run(tmp_path, DEFORMABLE, CLASSES)
    assert read_run(tmp_path) == (DEFORMABLE, CLASSES)


def test_the_text_of_the_config_stays_with_the_run_as_text(tmp_path):
    file = tmp_path / "mine.py"
    text = (
        '"""Mine: a run of grün."""\nfrom vitjax.tasks.detection import Detection\n\n\n'
        "def experiment():\n    return Detection()\n"
    )
    file.write_text(text, encoding="utf-8")
    config = load_config(str(file))
    write_run(tmp_path / "run", config.experiment, CLASSES, config)
    file.write_text("raise SystemExit('it ran')\n")
    assert (tmp_path / "run" / "config.py").read_text(encoding="utf-8") == text
    said = json.loads((tmp_path / "run" / "experiment.json").read_text())["config"]
    assert said == {"name": "mine", "path": str(file)}
    assert read_run(tmp_path / "run") == (config.experiment, CLASSES)


def test_a_full_disk_leaves_the_experiment_as_it_was(tmp_path, monkeypatch):
    write_run(tmp_path, DEFORMABLE, CLASSES)
    before = (tmp_path / "experiment.json").read_bytes()

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DataError, match=r"experiment\.json cannot be written: .*No space left"):
        write_run(tmp_path, Detection(), CLASSES)
    assert [path.name for path in tmp_path.iterdir()] == ["experiment.json"]
    assert (tmp_path / "experiment.json").read_bytes() == before


BROKEN = {
    "empty": ("", "it is empty"),
    "half": ('{"experiment": {"class": "vitjax.ru', "it is cut or no JSON"),
    "list": ("[]", "it has no 'experiment'"),
    "null": ('{"experiment": null}', "it has no 'experiment'"),
    "deep": ('{"experiment": ' + "[" * 100_000 + "]" * 100_000 + "}", "it is nested too deep"),
    "no classes": ('{"experiment": EXPERIMENT}', "it has no 'classes'"),
    "classes": ('{"experiment": EXPERIMENT, "classes": {"names": [1], "category_ids": [1]}}', "classes need"),
    "uneven": ('{"experiment": EXPERIMENT, "classes": {"names": ["a"], "category_ids": []}}', "classes need"),
    "loss": ('{"experiment": {"class": "vitjax.tasks.detection.Detection", "loss": []}}', r"experiment\.loss must be"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_file_that_is_not_as_it_was_written_is_one_line_with_its_name(tmp_path, name):
    text, message = BROKEN[name]
    experiment = '{"class": "vitjax.tasks.detection.Detection"}'
    (tmp_path / "experiment.json").write_text(text.replace("EXPERIMENT", experiment))
    with pytest.raises(DataError, match=rf"experiment\.json cannot be read: .*{message}") as caught:
        read_run(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_module_in_a_module_in_a_module_without_end_is_one_line(tmp_path):
    modules = '{"class": "vitjax.backbones.spatially_transformed.SpatiallyTransformed", "backbone": '
    text = '{"experiment": {"class": "vitjax.tasks.detection.Detection", "model": ' + modules * 900 + "1" + "}" * 902
    (tmp_path / "experiment.json").write_text(text)
    with pytest.raises(DataError, match=r"experiment\.json cannot be read"):
        read_run(tmp_path)


def test_a_loss_that_reads_the_logits_another_way_than_the_model_means_them_is_refused():
    with pytest.raises(ValueError, match="DeformableDETR gives sigmoid scores and SetLoss takes softmax scores"):
        Detection(model=DeformableDETR())


def test_a_path_may_name_one_checkpoint_of_a_run():
    assert run_and_step(Path("runs/a/checkpoints/40")) == (Path("runs/a"), 40)
    assert run_and_step(Path("runs/40")) == (Path("runs/40"), None)


@pytest.mark.parametrize("name, metric", [("detector", "AP"), ("classifier", "top1"), ("segmenter", "mIoU")])
def test_the_best_checkpoint_that_is_intact_is_the_one_that_is_used(name, metric, tmp_path):
    run = shutil.copytree(BEFORE / name, tmp_path / "run")
    with Store(run / "checkpoints") as store:
        step = store.latest_step()
    for later, score in ((step + 1, 0.9), (step + 2, 0.99), (step + 3, 0.1)):
        shutil.copytree(run / "checkpoints" / str(step), run / "checkpoints" / str(later))
        record = read_record(run / "checkpoints", later)
        write_record(run / "checkpoints", later, dataclasses.replace(record, metrics={metric: score}))
    assert read_model(run).step == step + 2
    shutil.rmtree(run / "checkpoints" / str(step + 2) / "arrays")
    with pytest.warns(UserWarning, match=f"passing over step {step + 2}"):
        assert read_model(run).step == step + 1
    shutil.rmtree(run / "checkpoints" / str(step + 1) / "arrays")
    with pytest.warns(UserWarning, match="passing over step"):
        assert len(read_weights(run).variables["params"]) > 1
    assert read_model(run, step=step + 3).step == step + 3


@pytest.mark.parametrize("name", ["detector", "classifier", "segmenter"])
def test_a_run_of_before_the_rooms_gives_the_answers_that_it_gave(name):
    answers = np.load(BEFORE / "answers.npz")
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    predictor = vitjax.load(BEFORE / name)
    if name == "detector":
        found = predictor(image, threshold=0.0)
        assert len(found.boxes) == len(answers["boxes"])
        np.testing.assert_allclose(found.boxes, answers["boxes"], atol=1e-3)
        np.testing.assert_allclose(found.scores, answers["scores"], atol=1e-5)
        np.testing.assert_array_equal(found.labels, answers["labels"])
    elif name == "classifier":
        found = predictor(image)
        np.testing.assert_allclose(found.scores, answers["class_scores"], atol=1e-5)
        np.testing.assert_array_equal(found.labels, answers["class_labels"])
    else:
        assert (predictor(image).label_map == answers["label_map"]).mean() > 0.999
