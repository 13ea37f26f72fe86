"""The names that users import: `vitjax.detection.DETR`, `vitjax.load`, each found when it is first used."""

import ast
import importlib
import importlib.util
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import vitjax

PACKAGE = Path(vitjax.__file__).parent
ROOMS = sorted(".".join(stub.relative_to(PACKAGE.parent).parent.parts) for stub in PACKAGE.rglob("__init__.pyi"))
PROMISED = {
    "vitjax": {"load", "structs", "Experiment", "AdamW", "StepSchedule", "CosineSchedule"},
    "vitjax.attention": {"NonLocal", "MultiHeadAttention"},
    "vitjax.backbones": {"ResNet", "CrossFormer", "crossformer_small"},
    "vitjax.classification": {"Classifier", "CrossEntropy"},
    "vitjax.data": {"CocoFolder", "Augmentation", "DataError"},
    "vitjax.detection": {"DETR", "DeformableDETR", "SetLoss"},
    "vitjax.layers": {"ConvNorm", "FeedForward"},
    "vitjax.ops": {"boxes", "sampling"},
    "vitjax.recipes": {"detr_coco", "deformable_detr_coco"},
    "vitjax.segmentation": {"Segmenter", "MaskDETR"},
}


def loaded_by(code: str) -> set[str]:
    """The modules of vitjax, and jax, that a new interpreter has loaded after this code."""
    code += "\nimport sys; print(*(name for name in sys.modules if name.split('.')[0] in ('vitjax', 'jax')))"
    done = subprocess.run([sys.executable, "-c", code], cwd=PACKAGE.parent, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def is_module(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def test_the_promised_rooms_have_their_names():
    found = {room: set(importlib.import_module(room).__all__) for room in ROOMS}
    assert found.keys() == PROMISED.keys()
    assert [f"{room}.{name}" for room, names in PROMISED.items() for name in names - found[room]] == []


@pytest.mark.parametrize("room", ROOMS)
def test_every_name_resolves_and_is_documented(room):
    module = importlib.import_module(room)
    values = {name: getattr(module, name) for name in module.__all__}
    written = {name: value.__doc__ or "" for name, value in values.items()}
    # A dataclass without a docstring of its own is given its signature.
    assert [name for name, text in written.items() if not text.strip() or text.startswith(f"{name}(")] == []
    assert set(module.__all__) <= set(dir(module))


@pytest.mark.parametrize("room", ROOMS)
def test_a_name_is_the_thing_itself_and_hides_no_module(room):
    module = importlib.import_module(room)
    for name in module.__all__:
        if is_module(f"{room}.{name}"):
            assert getattr(module, name) is importlib.import_module(f"{room}.{name}")
        else:
            home = importlib.import_module(getattr(module, name).__module__)
            assert getattr(home, name) is getattr(module, name)


def test_a_name_that_is_not_there_is_an_attribute_error_that_says_where():
    with pytest.raises(AttributeError, match=r"vitjax\.detection.*DTER"):
        _ = vitjax.detection.DTER


def test_the_namespaces_alone_load_none_of_their_files_and_no_jax():
    assert loaded_by("\n".join(f"import {room}" for room in ROOMS)) == set(ROOMS)


@pytest.mark.parametrize(
    ("used", "left_out"),
    [
        ("vitjax.backbones.ResNet", ["backbones.crossformer", "backbones.residual_attention", "detection"]),
        ("vitjax.detection.DETR", ["detection.deformable_detr", "detection.loss", "classification", "segmentation"]),
        ("vitjax.data.CocoFolder", ["data.digits", "data.image_folder", "detection"]),
        ("vitjax.segmentation.Segmenter", ["segmentation.detr_masks", "detection.detr", "classification"]),
    ],
)
def test_a_name_loads_nothing_that_stands_beside_it(used, left_out):
    room, _, name = used.rpartition(".")
    loaded = loaded_by(f"import vitjax\nassert {used}.__name__ == {name!r}")
    assert room in loaded
    assert loaded & {f"vitjax.{part}" for part in left_out} == set()


def test_the_package_itself_imports_from_files_so_that_its_closures_can_be_read():
    around = []
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module in ROOMS:
                around += [
                    (path.name, alias.name) for alias in node.names if not is_module(f"{node.module}.{alias.name}")
                ]
    assert [entry for entry in around if entry[1] != "__version__"] == []


def test_every_room_and_its_stub_are_packaged():
    settings = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text())["tool"]["setuptools"]
    rooms = {".".join(init.relative_to(PACKAGE.parent).parent.parts) for init in PACKAGE.rglob("__init__.py")}
    assert set(settings["packages"]) == {*rooms, "vitjax.configs"}
    assert {"*.pyi", "py.typed"} <= set(settings["package-data"]["*"])
