import json
import math
import shutil

import numpy as np
import pytest
from PIL import Image

from vitjax.checkpoints.paths import flatten
from vitjax.checkpoints.store import Store
from vitjax.commands.main import train
from vitjax.runs.configs import load_config, override
from vitjax.runs.initial import read_weights
from vitjax.runs.run_folder import read_run
from vitjax.training.prepare import prepare
from vitjax.training.report import read_metrics


def losses(workdir):
    return {entry["step"]: entry["loss"] for entry in read_metrics(workdir) if entry["split"] == "train"}


def test_a_run_leaves_metrics_curves_a_page_of_pictures_and_a_summary(run):
    report = run / "report"
    assert {path.name for path in report.iterdir()} >= {"loss.png", "ap.png", "predictions.png", "summary.json"}
    assert {path.name for path in report.iterdir()} >= {"mistakes.json", "confusion.png", "worst.png"}
    assert min(Image.open(report / "predictions.png").size) > 200
    summary = json.loads((report / "summary.json").read_text())
    assert summary["steps"] == 4 and summary["seconds"] > 0
    assert {"AP", "AP50", "AR100"} <= summary["last"].keys() & summary["best"].keys()
    assert {"baseline AP", "baseline AP50", "threshold"} <= summary.keys()
    assert json.loads((run / "baseline.json").read_text())["scores"]["AP50"] == summary["baseline AP50"]
    records = read_metrics(run)
    assert [entry["step"] for entry in records if entry["split"] == "val"] == [2, 4]
    terms = {"loss", "class", "box", "giou", "class_0", "class_error", "cardinality_error", "learning_rate"}
    assert all(terms <= entry.keys() for entry in records if entry["split"] == "train")
    assert list((run / "tensorboard").iterdir())


def test_the_first_line_tells_devices_parameters_batch_and_steps(config, data, tmp_path, capsys):
    assert train([config, "--data.root", str(data), "--workdir", str(tmp_path / "run"), "--epochs", "0.5"]) == 0
    first = capsys.readouterr().out.splitlines()[0]
    assert "2 x cpu" in first and "parameters train" in first and "frozen" in first
    assert "4 images a step" in first and "2 steps an epoch" in first


def test_the_class_table_is_kept_with_the_run_and_in_the_checkpoint(run):
    _, classes = read_run(run)
    assert classes.category_ids == tuple(range(1, 20, 2))
    assert classes.names[3] == "digit 3"
    with Store(run / "checkpoints") as store:
        assert store.notes(store.latest_step())["classes"]["category_ids"] == list(range(1, 20, 2))


def test_an_interrupted_run_goes_on_as_if_it_had_not_been(run, config, data, tmp_path, capsys):
    words = [config, "--data.root", str(data), "--workdir", str(tmp_path / "run")]
    assert train([*words, "--epochs", "1"]) == 0
    assert train([*words, "--epochs", "2"]) == 0
    assert "goes on from step 2" in capsys.readouterr().out
    assert losses(tmp_path / "run") == pytest.approx(losses(run), rel=1e-5)
    whole, resumed = flatten(read_weights(run).variables), flatten(read_weights(tmp_path / "run").variables)
    assert all(np.allclose(whole[path], resumed[path], atol=1e-6) for path in whole)


def test_a_finished_run_says_so_and_trains_no_further(run, config, data, tmp_path, capsys):
    copy = shutil.copytree(run, tmp_path / "run")
    assert train([config, "--data.root", str(data), "--workdir", str(copy)]) == 0
    assert "step 4 of 4" in capsys.readouterr().out
    assert losses(copy) == losses(run)


def test_another_run_gives_its_weights_but_not_its_class_head(run, config, data, tmp_path):
    other = shutil.copytree(data, tmp_path / "data")
    for path in (other / "annotations").iterdir():
        content = json.loads(path.read_text())
        content["categories"].append({"id": 99, "name": "letter"})
        path.write_text(json.dumps(content))
    prepared = prepare(override(load_config(config), ["--data.root", str(other), "--init-from", str(run)]))
    new = [note for note in prepared.notes if "new" in note]
    assert [note.split() for note in new] == [
        ["class_head", "1", "12", "new:", "(12,)", "here,", "(11,)", "there"],
        ["class_head", "1", "192", "new:", "(16,", "12)", "here,", "(16,", "11)", "there"],
    ]
    stem = flatten(prepared.state.trainable)["backbone/stem_conv/kernel"]
    np.testing.assert_array_equal(stem, flatten(read_weights(run).variables)["params/backbone/stem_conv/kernel"])


def test_a_loss_that_is_not_finite_stops_with_step_images_and_terms(config, data, tmp_path, capsys):
    workdir = tmp_path / "run"
    # The learning rate leaps after the first epoch.
    wild = ["--optimizer.schedule.drop-epochs", "1", "--optimizer.schedule.factor", "1e33"]
    words = [config, "--data.root", str(data), "--workdir", str(workdir), *wild, "--optimizer.clip-norm", "None"]
    assert train([*words, "--epochs", "1"]) == 0
    before = sorted(path.name for path in (workdir / "checkpoints").iterdir())
    capsys.readouterr()
    assert train([*words, "--epochs", "9", "--evaluate-every", "100", "--save-every", "100"]) == 1
    error = capsys.readouterr().err
    assert "is not finite in " in error and "image ids [" in error and "step " in error
    assert "Traceback" not in error and f"the same command goes on from step {before[-1]}." in error
    assert sorted(path.name for path in (workdir / "checkpoints").iterdir()) == before
    (entry,) = map(json.loads, (workdir / "not_finite.jsonl").read_text().splitlines())
    assert entry["last_checkpoint"] == int(before[-1]) and entry["weights_of_step"] == entry["step"] - 1
    assert f"step {entry['step']} is" in error and len(entry["image_ids"]) == 4
    assert entry["module"] or entry["gradients"]


def test_an_image_that_cannot_be_read_is_replaced_counted_and_named(folder, config, tmp_path, capsys):
    broken = folder / "train" / "2.png"
    broken.write_bytes(broken.read_bytes()[:-200])
    assert train([config, "--data.root", str(folder), "--workdir", str(tmp_path / "run"), "--epochs", "1"]) == 0
    said = capsys.readouterr().out
    assert "1 training images could not be read" in said and "2.png" in said
    assert all(math.isfinite(loss) for loss in losses(tmp_path / "run").values())
