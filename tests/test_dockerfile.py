"""What the Dockerfile copies is there, is let through, and is all that the package is built from."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def copied():
    lines = re.findall(r"^COPY (?!--from)(.+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    return {word for line in lines for word in line.split()[:-1]}


def test_all_that_is_copied_is_there_and_nothing_else_is_let_through():
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert {line[1:] for line in ignored if line.startswith("!")} == copied() and "*" in ignored
    assert [name for name in copied() if not (ROOT / name).exists()] == []


def test_all_that_the_package_is_built_from_is_copied():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    folders = {name.split(".")[0] for name in settings["tool"]["setuptools"]["packages"]}
    folders |= {*settings["tool"]["setuptools"]["package-dir"].values()}
    files = {settings["project"]["readme"], *settings["project"]["license-files"], "pyproject.toml"}
    files |= {*settings["tool"]["setuptools"]["dynamic"]["dependencies"]["file"]}
    assert folders | files == copied()
