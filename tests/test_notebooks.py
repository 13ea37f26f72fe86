"""The notebooks run from the first cell to the last, and what is stored in them is small and free of errors."""

import importlib.util
import json
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from PIL import Image
from quick import drawn

from vitjax.attention.squeeze_excitation import SqueezeExcitation
from vitjax.backbones.crossformer import CrossFormer
from vitjax.backbones.resnet import ResNet
from vitjax.classification.classifier import Classifier
from vitjax.classification.postprocess import TopClasses
from vitjax.data.crops import CenterCrop
from vitjax.data.digits import Digits
from vitjax.data.source import Classes
from vitjax.data.transforms import Resize
from vitjax.detection.deformable_detr import DeformableDETR
from vitjax.detection.detr import DETR
from vitjax.detection.postprocess import BestClass, TopDetections
from vitjax.export.convert import write_run_folder
from vitjax.families.huggingface.folder import write_folder
from vitjax.families.model_file import ModelFile
from vitjax.runs.configs import load_config, names, override
from vitjax.structs import Images

NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"
NAMES = ("attention", "detect", "finetune", "zoo")
MOST_LINES, MOST_BYTES = 100, 150_000

SIZES: dict[str, Any] = {"num_classes": 3, "num_queries": 5, "channels": 16, "heads": 2, "feed_forward": 8}
SIZES |= {"encoder_layers": 1, "decoder_layers": 1, "backbone": ResNet(width=4, stage_blocks=(1, 1))}
GROUPED: dict[str, Any] = {"channels": 16, "depths": (1, 2), "heads": (1, 2), "group_sizes": (4, 4)}
GROUPED |= {"intervals": (4, 2), "patch_kernels": (4, 8)}
CONFIG = '''"""A detector so small that it trains in seconds."""

from vitjax.backbones.resnet import ResNet
from vitjax.data.digits import Digits
from vitjax.data.transforms import Augmentation, Resize
from vitjax.detection.detr import DETR
from vitjax.tasks.detection import Detection


def experiment():
    return Detection(
        model=DETR(
            backbone=ResNet(depth=18, width=8, stage_blocks=(1,), norm="group"),
            num_queries=5, channels=16, heads=2, encoder_layers=1, decoder_layers=1, feed_forward=16,
        ),
        data=Digits(height=64, width=96, train_images=16, val_images=4),
        augmentation=Augmentation(sizes=(), max_side=None, crop=0.0),
        resize=Resize(size=None, max_side=None),
    )
'''

every_notebook = pytest.mark.parametrize("name", NAMES)


def cells(name: str, kind: str) -> list[dict[str, Any]]:
    content = json.loads((NOTEBOOKS / f"{name}.ipynb").read_text(encoding="utf-8"))
    return [cell for cell in content["cells"] if cell["cell_type"] == kind]


def text_of(cell: dict[str, Any]) -> str:
    return "".join(cell["source"])


def run(name: str, **parameters: Any) -> dict[str, Any]:
    """The names that a notebook leaves, run with these values in place of those in its cell tagged `parameters`."""
    names: dict[str, Any] = {}
    for number, cell in enumerate(cells(name, "code"), start=1):
        exec(compile(text_of(cell), f"{name}.ipynb, code cell {number}", "exec"), names)
        if "parameters" in cell["metadata"].get("tags", []):
            assert parameters.keys() <= names.keys()
            names |= parameters
    return names


def file_of(model: Any) -> ModelFile:
    """A model of three classes with variables that are drawn, which takes no time."""
    images = Images(jnp.zeros((1, 64, 64, 3)), jnp.ones((1, 64, 64), bool))
    variables = drawn(jax.eval_shape(lambda: model.init(jax.random.key(0), images, train=False)))
    postprocess, resize = {
        DETR: (BestClass(), Resize(size=64, max_side=64)),
        DeformableDETR: (TopDetections(), Resize(size=64, max_side=64)),
        Classifier: (TopClasses(), CenterCrop(size=64, resize=64)),
    }[type(model)]
    return ModelFile(model, variables, Classes(("", "cat", "dog"), (0, 1, 2)), resize, postprocess)


def test_detect_finds_boxes_with_a_folder_as_a_repository_has_it(tmp_path, capsys):
    write_folder(tmp_path / "published", file_of(DETR(**SIZES)))
    Image.fromarray(Digits().open("val")[0].image).save(tmp_path / "scene.png")
    left = run("detect", CHECKPOINT=str(tmp_path / "published"), IMAGE=str(tmp_path / "scene.png"), THRESHOLD=0.0)
    assert len(left["found"]) == 5 and set(left["found"].names) <= {"cat", "dog", "class 0"}
    assert "is a DETR with 5 queries" in capsys.readouterr().out


def test_finetune_writes_data_trains_a_start_and_goes_on_with_the_two_classes(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("tiny.py").write_text(CONFIG)
    left = run("finetune", CONFIG="tiny.py", IMAGES={"train": 16, "val": 4}, START_EPOCHS=1, EPOCHS=1)
    assert left["outcome"].step == 1
    assert left["detect"].classes.names == ("even", "odd")
    said = capsys.readouterr().out
    assert "can be trained on" in said and "taken from runs/start" in said


def test_attention_draws_a_picture_of_each_kind(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    models = {
        "deformable": DeformableDETR(**SIZES, levels=2, backbone_levels=1),
        "detr": DETR(**SIZES),
        "crossformer": Classifier(CrossFormer(**GROUPED), num_classes=3),
    }
    for name, model in models.items():
        write_run_folder(file_of(model), Path("runs", name))
    run("attention", RUNS=dict.fromkeys(models, ""))
    assert {path.name for path in tmp_path.glob("*.png")} == {"attention.png", "sampling.png", "groups.png"}


def test_the_runs_of_attention_are_configs_with_fields_that_are_there():
    names: dict[str, Any] = {}
    exec(text_of(cells("attention", "code")[2]), names)
    for config, words in names["RUNS"].items():
        assert override(load_config(config), words.split()) != load_config(config).experiment


def test_zoo_draws_a_picture_of_each_module(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    gated = ResNet(20, stem="small", width=4, stage_blocks=(1,), attention=SqueezeExcitation(), attention_stages=(1,))
    file = file_of(Classifier(gated, num_classes=3, norm=False))
    configs = [name for name in names() if name.startswith("zoo_") and name.endswith("_digits")]
    for name in set(configs) - {"zoo_plain_digits"}:
        write_run_folder(file, Path("runs", name))
    left = run("zoo")
    assert {f"zoo_{name}_digits" for name in left["models"]} == set(configs) - {"zoo_plain_digits"}
    assert Path("look.png").exists()


def test_these_are_all_the_notebooks():
    assert sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb")) == sorted(NAMES)


@every_notebook
def test_a_notebook_has_few_lines_of_code(name):
    lines = [line for cell in cells(name, "code") for line in text_of(cell).splitlines() if line.strip()]
    assert len(lines) <= MOST_LINES


def test_the_first_cell_of_all_notebooks_is_one_and_begins_with_what_may_be_filled_in():
    (first,) = {text_of(cells(name, "code")[0]) for name in NAMES}
    assert first.startswith('VITJAX = ""  # ')


def test_no_file_for_people_has_a_name_to_be_filled_in():
    root = NOTEBOOKS.parent
    files = [*NOTEBOOKS.glob("*.ipynb"), *root.glob("*.md"), *root.glob("docs/*.md"), *root.glob("Dockerfile*")]
    assert [path.name for path in files if "OWN" + "ER" in path.read_text(encoding="utf-8")] == []


@pytest.fixture
def begin(tmp_path, monkeypatch):
    """Runs the first cell where Python finds only the modules that are named, in a folder; gives what was installed."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(shutil, "which", lambda name: None)

    def begin(*modules, folder=tmp_path, vitjax=""):
        installed = []
        monkeypatch.chdir(folder)
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: name if name in modules else None)
        monkeypatch.setattr(subprocess, "run", lambda words, check: installed.append(words))
        exec(text_of(cells("detect", "code")[0]).replace('VITJAX = ""', f"VITJAX = {vitjax!r}", 1), {})
        return [words[5:] for words in installed]

    return begin


def test_the_first_cell_installs_nothing_in_a_checkout_whose_requirements_are_there(begin):
    assert begin("tyro", folder=NOTEBOOKS) == [] and sys.path[0] == str(NOTEBOOKS.parent)


def test_the_first_cell_installs_the_checkout_that_it_is_in(begin):
    assert begin(folder=NOTEBOOKS) == [[str(NOTEBOOKS.parent), "huggingface_hub", "jax"]]


def test_the_first_cell_leaves_an_installed_package_as_it_is(begin):
    assert begin("vitjax", "tyro") == []


def test_the_first_cell_installs_from_the_address_and_asks_for_it_where_there_is_none(begin):
    address = "git+https://example.org/vitjax"
    assert begin(vitjax=address) == [[address, "huggingface_hub", "jax"]]
    with pytest.raises(RuntimeError, match="say above where pip gets it from"):
        begin()


@pytest.mark.parametrize("where", ["path", "address"])
def test_a_zip_of_images_takes_the_place_of_the_digits(tmp_path, monkeypatch, where):
    monkeypatch.chdir(tmp_path)
    with zipfile.ZipFile("mine.zip", "w") as archive:
        archive.writestr("train/_annotations.coco.json", "{}")
    (get,) = (text_of(cell) for cell in cells("finetune", "code") if "zipfile" in text_of(cell))
    exec(get, {"ZIP": "mine.zip" if where == "path" else Path("mine.zip").absolute().as_uri(), "DATA": "data"})
    assert Path("data/train/_annotations.coco.json").is_file()


@every_notebook
def test_a_notebook_names_no_path_of_the_machine_that_it_was_run_on(name):
    content = (NOTEBOOKS / f"{name}.ipynb").read_text(encoding="utf-8")
    assert not re.search(r"(?<![\w:/.])/(root|home|work|tmp|usr|opt|Users|content|mnt)\b", content)


@every_notebook
def test_what_a_notebook_shows_was_stored_from_one_run_without_errors_and_is_small(name):
    assert (NOTEBOOKS / f"{name}.ipynb").stat().st_size < MOST_BYTES
    code = cells(name, "code")
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell["outputs"]]
    assert not [output for output in outputs if output["output_type"] == "error" or output.get("name") == "stderr"]
    assert [output for output in outputs if "image/png" in output.get("data", {})]
