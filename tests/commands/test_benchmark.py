"""What the benchmark command prints of a tiny model."""

import json

import numpy as np
import pytest
from inference.test_sweep import COLOURS, Shade
from inference.test_tiles import Brightest

from vitjax.classification.postprocess import TopClasses
from vitjax.commands.main import main
from vitjax.data.crops import CenterCrop
from vitjax.data.transforms import Resize
from vitjax.detection.postprocess import BestClass
from vitjax.errors import FieldError
from vitjax.families.model_file import ModelFile
from vitjax.inference.measure import Measured, measure
from vitjax.runs import read_model
from vitjax.tasks.classification import ImageClassifier

VARIABLES = {"params": {"kernel": np.zeros((5, 7), np.float32)}}


@pytest.fixture
def detector(monkeypatch):
    monkeypatch.setattr(
        read_model,
        "read_model",
        lambda *_, **__: ModelFile(Brightest(), VARIABLES, COLOURS, Resize(48, 96), BestClass()),
    )


def test_the_figures_are_printed_for_people_and_for_programs(detector, capsys):
    words = ["benchmark", "runs/mine", "--repeats", "3", "--batch-size", "2"]
    assert main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Brightest of runs/mine: 35 parameters, computes in float32"
    assert lines[1].startswith("batches of 2, 64 x 64 pixels, on cpu (cpu), jax ")
    heads = ["latency", "throughput", "compiling", "memory"]
    assert [line.split()[0] for line in lines[2:]] == heads and "(3 runs)" in lines[2]
    assert main([*words, "--json", "--image-size", "32", "96"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["image_size"], told["batch_size"], told["runs"], told["devices"]) == ([32, 96], 2, 3, 1)
    assert told["images_per_second"] == pytest.approx(2e3 / told["median_ms"], rel=0.01)
    assert told["argument_bytes"] >= 2 * 32 * 96 * 3 and told["peak_bytes"] is None


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--batch-size", "0"], "batch_size is at least 1, got 0"),
        (["--repeats", "0"], "repeats is at least 1, got 0"),
        (["--image-size", "0", "32"], "height is at least 1, got 0"),
        (["--device", "cpu"], "batch_size must be divisible by the 2 devices; got 1"),
        (["--device", "abacus"], "there is no device 'abacus'"),
        (["--dtype", "bfloat16"], "a Brightest computes in float32"),
    ],
)
def test_what_cannot_be_measured_is_one_line(detector, words, line, capsys):
    assert main(["benchmark", "runs/mine", *words]) == 1
    assert capsys.readouterr().err.startswith(f"error: {line}")


def test_a_classifier_sees_squares():
    task = ImageClassifier(Shade(), CenterCrop(16, 20), TopClasses(2))
    assert measure(task, {}, COLOURS, image_size=(24, 24), repeats=1).image_size == (24, 24)
    with pytest.raises(FieldError, match="this model sees squares, of equal height and width; got 24 x 32"):
        measure(task, {}, COLOURS, image_size=(24, 32), repeats=1)


def test_the_figures_are_those_of_the_runs():
    seconds = tuple(0.010 + 0.001 * run for run in range(11))
    told = Measured("cpu (cpu)", 1, 4, (8, 8), 1.0, seconds, 1, 2, None).told()
    assert (told["median_ms"], told["p90_ms"]) == (15.0, 19.0)
    assert told["images_per_second"] == pytest.approx(4 / 0.015, abs=1e-3)


def test_images_as_they_are_need_a_size(monkeypatch, capsys):
    file = ModelFile(Brightest(), VARIABLES, COLOURS, Resize(None, None), BestClass())
    monkeypatch.setattr(read_model, "read_model", lambda *_, **__: file)
    assert main(["benchmark", "runs/mine"]) == 1
    assert "give --image-size HEIGHT WIDTH" in capsys.readouterr().err
