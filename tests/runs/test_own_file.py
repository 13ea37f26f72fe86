"""Files of tensors for models that no published code has: written under our own names, said so, and read back."""

import dataclasses
import functools
import json

import jax
import numpy as np
import pytest

from vitjax.backbones.resnet import ResNet
from vitjax.checkpoints.paths import flatten
from vitjax.classification.classifier import Classifier
from vitjax.classification.postprocess import TopClasses
from vitjax.commands.main import main
from vitjax.data.crops import CenterCrop
from vitjax.data.errors import DataError
from vitjax.data.source import Classes
from vitjax.data.transforms import Resize
from vitjax.detection.detr import DETR
from vitjax.detection.postprocess import BestClass
from vitjax.export.convert import convert, default_experiment, write_run_folder
from vitjax.families.model_file import ModelFile, shapes_of
from vitjax.formats.tables import PublishedError
from vitjax.formats.tensor_files import read_tensors, write_tensors
from vitjax.runs.initial import read_weights
from vitjax.runs.own_file import write_own
from vitjax.runs.read_model import read_model
from vitjax.segmentation.fcn_head import FCNHead
from vitjax.segmentation.label_map import BestLabel
from vitjax.segmentation.segmenter import Segmenter

SMALL = {"depth": 20, "stem": "small", "width": 4, "stage_blocks": (1,)}
CLASSES = Classes(("cat", "dog"), (3, 7))
CROP = (CenterCrop(size=20, resize=22), TopClasses(k=1))
MODELS = {
    "group norm": (Classifier(ResNet(**SMALL, norm="group"), num_classes=2, norm=False), *CROP),
    "small stem": (Classifier(ResNet(**SMALL, norm="batch"), num_classes=2, norm=False), *CROP),
    "pixels": (Segmenter(ResNet(**SMALL), FCNHead(channels=4), num_classes=2), Resize(32, 48), BestLabel()),
}


@functools.cache
def file_of(name):
    model, resize, postprocess = MODELS[name]
    rng = np.random.default_rng(0)
    variables = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(leaf.dtype), shapes_of(model))
    return ModelFile(model, variables, CLASSES, resize, postprocess, matmul_precision="high")


def same(one, other):
    one, other = flatten(one), flatten(other)
    return one.keys() == other.keys() and all(
        one[path].dtype == other[path].dtype and np.array_equal(one[path], other[path]) for path in one
    )


@pytest.mark.parametrize(("name", "suffix"), [*((name, ".pth") for name in MODELS), ("group norm", ".safetensors")])
def test_a_model_that_nobody_published_comes_back_to_the_last_bit(name, suffix, tmp_path, capsys):
    file, out = file_of(name), tmp_path / f"mine{suffix}"
    write_run_folder(file, tmp_path / "run")
    assert main(["convert", str(tmp_path / "run"), str(out)]) == 0
    told = capsys.readouterr().out
    assert told.startswith("note: no published code has this model (") and "have vitjax's own names" in told
    again = read_model(out)
    assert (again.model, again.classes) == (file.model, CLASSES) and same(again.variables, file.variables)
    assert (again.resize, again.postprocess, again.matmul_precision) == (file.resize, file.postprocess, "high")
    assert "params/backbone/stem_conv/kernel" in read_tensors(out).tensors


def test_a_run_starts_from_such_a_file(tmp_path):
    file = file_of("group norm")
    write_own(tmp_path / "mine.pth", file.variables, default_experiment(file), CLASSES)
    weights = read_weights(tmp_path / "mine.pth")
    assert weights.classes == CLASSES and same(weights.variables, file.variables)


def test_where_the_official_layout_or_hugging_face_is_asked_for_it_is_refused_with_the_reason(tmp_path, capsys):
    model = DETR(ResNet(18, width=8, stage_blocks=(1,), norm="group"), num_classes=2)
    variables = {"params": {"backbone": {"stem_norm": {"scale": np.ones(8, np.float32)}}}}
    write_run_folder(ModelFile(model, variables, CLASSES, Resize(), BestClass()), tmp_path / "run")
    for words, reason in (
        (["mine.pth", "--to", "official"], "parameters without a published name"),
        (
            ["mine", "--to", "huggingface"],
            "transformers has no ResNet with norm='group', so it cannot be written",
        ),
    ):
        assert main(["convert", str(tmp_path / "run"), str(tmp_path / words[0]), *words[1:]]) == 1
        assert reason in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_official_names_that_do_not_tell_all_of_a_model_are_said_not_to(tmp_path, monkeypatch):
    file = file_of("group norm")
    write_run_folder(file, tmp_path / "run")
    again = dataclasses.replace(file, model=file.model.clone(padding="reference"))
    monkeypatch.setattr("vitjax.export.convert.write_official", lambda file, out, readable: again)
    notes = convert(str(tmp_path / "run"), tmp_path / "mine.pth").notes
    assert notes == ('note: no tensor tells of padding: "exact" here, "reference" when read',)


def change_json(tensors, mend):
    about = json.loads(tensors["vitjax.json"].tobytes())
    mend(about)
    tensors["vitjax.json"] = np.frombuffer(json.dumps(about).encode(), np.uint8)


FAULTS = {
    "is no JSON": lambda tensors: tensors.update({"vitjax.json": np.zeros(3, np.uint8)}),
    "has no 'experiment'": lambda tensors: change_json(tensors, lambda about: about.pop("experiment")),
    "it has no 'classes'": lambda tensors: change_json(tensors, lambda about: about.pop("classes")),
    "is not vitjax's": lambda tensors: change_json(
        tensors, lambda about: about["experiment"]["model"].update({"class": "os.system"})
    ),
    "does not fit its own model in 1 tensors: params/head/bias": lambda tensors: tensors.pop("params/head/bias"),
    "does not fit its own model in 1 tensors: params/other": lambda tensors: tensors.update(
        {"params/other": np.zeros(2, np.float32)}
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_file_of_our_own_that_is_spoilt_is_one_line_that_names_it(fault, tmp_path):
    file = file_of("group norm")
    write_own(tmp_path / "mine.pth", file.variables, default_experiment(file), CLASSES)
    tensors = dict(read_tensors(tmp_path / "mine.pth").tensors)
    FAULTS[fault](tensors)
    write_tensors(tmp_path / "spoilt.pth", tensors)
    with pytest.raises((DataError, PublishedError, ValueError), match=fault) as caught:
        read_model(tmp_path / "spoilt.pth")
    assert "spoilt.pth" in str(caught.value) and "\n" not in str(caught.value)
