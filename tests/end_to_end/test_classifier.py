"""A classifier of a user's image folder: trained, interrupted, evaluated, asked, and started from."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from PIL import Image

import vitjax
from vitjax.checkpoints.paths import flatten
from vitjax.classification.loss import CrossEntropy
from vitjax.classification.policy_loss import PolicyLoss
from vitjax.commands.main import main, train
from vitjax.detection.loss import SetLoss
from vitjax.runs.configs import load_config, override
from vitjax.runs.initial import read_weights
from vitjax.tasks.classification import Classification
from vitjax.tasks.detection import Detection
from vitjax.training.prepare import prepare
from vitjax.training.report import read_metrics

CONFIG = '''"""A classifier so small that it trains in seconds."""

from vitjax.backbones.crossformer import CrossFormer
from vitjax.classification.classifier import Classifier
from vitjax.classification.loss import CrossEntropy
from vitjax.classification.mixing import Mixing
from vitjax.classification.postprocess import TopClasses
from vitjax.data.crops import CenterCrop, RandomCrop
from vitjax.data.image_folder import ImageFolder
from vitjax.tasks.classification import Classification
from vitjax.runs.optimizer import AdamW


def experiment():
    return Classification(
        model=Classifier(
            backbone=CrossFormer(
                channels=16, depths=(1,), heads=(1,), group_sizes=(2,), intervals=(1,), patch_kernels=(4,)
            )
        ),
        data=ImageFolder(),
        augmentation=RandomCrop(size=16),
        mixing=Mixing(),
        resize=CenterCrop(size=16, resize=18),
        loss=CrossEntropy(),
        postprocess=TopClasses(),
        optimizer=AdamW(learning_rate=1e-3, decay_vectors=False),
        epochs=2, batch_size=4, log_every=1, average=0.9,
    )
'''
COLOURS = {"blue": (0, 0, 255), "green": (0, 255, 0), "red": (255, 0, 0)}


def write_images(root):
    """Three classes of noisy colours: four images each to train on, two to be scored on."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 4), ("val", 2)):
        for name, colour in COLOURS.items():
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                noisy = 0.7 * np.array(colour) + rng.uniform(0, 75, (20, 24, 3))
                Image.fromarray(noisy.astype(np.uint8)).save(root / split / name / f"{i}.png")
    return root


@pytest.fixture
def folder(tmp_path):
    """A fresh image folder that a test may spoil."""
    return write_images(tmp_path / "images")


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    path = tmp_path_factory.mktemp("config") / "colours.py"
    path.write_text(CONFIG)
    return str(path)


@pytest.fixture(scope="module")
def run(config, images, tmp_path_factory):
    """A finished run of two epochs."""
    workdir = tmp_path_factory.mktemp("run") / "colours"
    assert train([config, "--data.root", str(images), "--workdir", str(workdir)]) == 0
    return workdir


def losses(workdir):
    return {entry["step"]: entry["loss"] for entry in read_metrics(workdir) if entry["split"] == "train"}


def test_a_run_leaves_accuracy_curves_a_page_of_pictures_and_a_summary(run):
    report = run / "report"
    assert {path.name for path in report.iterdir()} == {"loss.png", "accuracy.png", "predictions.png", "summary.json"}
    summary = json.loads((report / "summary.json").read_text())
    assert 0 <= summary["best"]["top1"] <= summary["best"]["top5"] == 1
    terms = {"loss", "cross_entropy", "class_error", "gradient_norm", "learning_rate"}
    assert all(terms <= entry.keys() for entry in read_metrics(run) if entry["split"] == "train")


def test_an_interrupted_run_goes_on_as_if_it_had_not_been(run, config, images, tmp_path, capsys):
    words = [config, "--data.root", str(images), "--workdir", str(tmp_path / "run")]
    assert train([*words, "--epochs", "1"]) == 0
    assert train([*words, "--epochs", "2"]) == 0
    assert "goes on from step 3" in capsys.readouterr().out
    assert losses(tmp_path / "run") == pytest.approx(losses(run), rel=1e-5)


def test_evaluate_prints_accuracy_by_class_and_writes_what_every_image_was_taken_for(run, images, tmp_path, capsys):
    assert main(["evaluate", str(run), "--out", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert all(name in said for name in COLOURS) and "top1" in said.replace("-", "").replace(" ", "").lower()
    assert json.loads((tmp_path / "scores.json").read_text()).keys() >= {"top1", "top5"}
    results = json.loads((tmp_path / "results.json").read_text())
    assert len(results) == 6 and {"image", "label", "classes"} <= results[0].keys()


def test_predict_prints_the_best_classes_and_writes_json(run, images, tmp_path, capsys):
    out = tmp_path / "out"
    (tmp_path / "text.png").write_text("no image")
    names = [str(images / "val" / "red"), str(images / "val" / "blue" / "1.png"), str(tmp_path / "text.png")]
    assert main(["predict", str(run), *names, "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert said.count(" %  red") == 3 and f"skipped, cannot be read: {tmp_path / 'text.png'}" in said
    entries = json.loads((out / "predictions.json").read_text())
    assert [entry["file_name"] for entry in entries][-1].endswith("blue/1.png")
    for entry in entries:
        scores = [one["score"] for one in entry["classes"]]
        assert scores == sorted(scores, reverse=True) and sum(scores) == pytest.approx(1, abs=1e-4)


def test_predict_gives_as_many_classes_as_asked_for_and_knows_no_threshold(run, images, tmp_path, capsys):
    words = ["predict", str(run), str(images / "val" / "red" / "0.png"), "--out", str(tmp_path)]
    assert main([*words, "--top", "1"]) == 0
    assert len(json.loads((tmp_path / "predictions.json").read_text())[0]["classes"]) == 1
    assert main([*words, "--threshold", "0.5"]) == 1
    assert "--threshold and --nms are for detectors" in capsys.readouterr().err


def test_a_classifier_is_a_python_call(run, images):
    classify = vitjax.load(run)
    path = images / "val" / "green" / "0.png"
    one, two = classify(path), classify([path, np.asarray(Image.open(path))])
    assert one.names == two[0].names == two[1].names and set(one.names) == set(COLOURS)
    np.testing.assert_allclose(one.scores, two[1].scores, atol=1e-5)
    assert len(classify(path, top=2)) == 2


def test_another_run_gives_its_weights_but_not_its_head(run, config, folder, capsys):
    shutil.copytree(folder / "train" / "red", folder / "train" / "scarlet")
    shutil.copytree(folder / "val" / "red", folder / "val" / "scarlet")
    words = ["--data.root", str(folder), "--init-from", str(run)]
    prepared = prepare(override(load_config(config), words))
    assert [note.split()[0] for note in prepared.notes if "new:" in note] == ["head", "head"]
    assert flatten(prepared.state.trainable)["head/kernel"].shape == (16, 4)
    named = prepare(override(load_config(config), [*words, "--match-classes", "True"]))
    assert [note.split("  ")[-1] for note in named.notes if note.startswith("head")] == [
        "taken for 3 of 4 classes by name"
    ]
    head, before = (
        flatten(each)["head/kernel"] for each in (named.state.trainable, read_weights(run).variables["params"])
    )
    np.testing.assert_array_equal(head[:, :3], before)


def test_more_labels_than_the_head_has_are_refused(config, images, tmp_path, capsys):
    words = [config, "--data.root", str(images), "--workdir", str(tmp_path / "run"), "--model.num-classes", "2"]
    assert train(words) == 1
    assert "the data has 3 class labels and the model 2" in capsys.readouterr().err


def test_a_class_without_images_is_named(config, folder, tmp_path, capsys):
    for path in (folder / "train" / "green").iterdir():
        path.unlink()
    assert train([config, "--data.root", str(folder), "--workdir", str(tmp_path / "run")]) == 1
    error = capsys.readouterr().err
    assert "green" in error and "Traceback" not in error


def test_images_that_break_later_are_replaced_in_training_and_missed_in_evaluation(config, folder, tmp_path, capsys):
    for path in (folder / "train" / "red" / "2.png", folder / "val" / "red" / "0.png"):
        path.write_bytes(path.read_bytes()[:-600])
    words = [config, "--data.root", str(folder), "--workdir", str(tmp_path / "run"), "--epochs", "1"]
    assert train([*words]) == 0
    said = capsys.readouterr().out
    assert "1 training images could not be read" in said and "red/2.png" in said
    assert main(["evaluate", str(tmp_path / "run")]) == 0
    assert "1 images could not be read: red/0.png" in capsys.readouterr().out


def test_explain_draws_the_groups_of_a_crossformer_and_refuses_what_is_not_for_it(run, images, tmp_path, capsys):
    words = ["explain", str(run), str(images / "val" / "red" / "0.png"), "--out", str(tmp_path / "groups.png")]
    assert main(words) == 0
    assert "probability" in capsys.readouterr().out and min(Image.open(tmp_path / "groups.png").size) > 200
    assert main([*words, "--query", "1"]) == 1
    assert "query" in capsys.readouterr().err


def test_parts_of_different_tasks_are_refused():
    classifier = load_config("crossformer_tiny_digits").experiment
    with pytest.raises(ValueError, match=r"Detection is made of parts for detection.*: model=Classifier, data=DigitIm"):
        Detection(model=classifier.model, data=classifier.data)
    with pytest.raises(ValueError, match=r"made of parts for classification.*: loss=SetLoss\."):
        dataclasses.replace(classifier, loss=SetLoss())
    with pytest.raises(ValueError, match="divided among micro_batches evenly; got 16 and 3"):
        Classification(micro_batches=3)


def test_glimpses_are_trained_by_their_own_loss():
    glimpses = load_config("zoo_hard_attention_digits").experiment
    with pytest.raises(ValueError, match=r"RecurrentAttention goes with PolicyLoss.*got RecurrentAttention with Cross"):
        dataclasses.replace(glimpses, loss=CrossEntropy())
    with pytest.raises(ValueError, match="got Classifier with PolicyLoss"):
        dataclasses.replace(load_config("crossformer_tiny_digits").experiment, loss=PolicyLoss())
