"""What is said of a data set in YOLO's layout: its classes and splits, by a data.yaml or by the names of folders."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from vitjax.data.errors import DataError, Tally
from vitjax.data.folder import VALIDATION, read_bytes
from vitjax.data.image_paths import Finder, find_folder, found_images
from vitjax.data.memory import SUFFIXES
from vitjax.data.yolo import WISH

_SUFFIXES = (".yaml", ".yml")
_YAML = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")
_MOST_CLASSES = 10_000
_NAMES = ("classes.txt", "obj.names", "labels/classes.txt")  # of folders without a yaml


class YoloSet(NamedTuple):
    """Where it is said, the names of the classes by number, and what each split is; `base` is where its paths begin."""

    path: Path
    names: dict[int, str]
    splits: dict[str, list[str]]
    base: Path
    keypoints: bool
    is_named: bool = False
    """Whether the user has named the yaml itself, whose paths then may lead anywhere."""
    told: str = ""
    """How many classes there are, as it is written; "" where it is not."""


def read_set(root: Path) -> YoloSet:
    """What is said of the data set in a folder, or in a yaml.

    Raises:
        DataError: there is none, or what is said makes no sense.
    """
    if root.is_file() and root.suffix.lower() not in _SUFFIXES:
        raise DataError(f"{root} is neither a folder nor a yaml. {WISH}.")
    path = root if root.is_file() else next((each for each in _yamls(root) if _is_set(_yaml(each))), None)
    if path is None:
        pairs = _pairs(root)
        if not pairs:
            raise DataError(f"{root} has neither a data.yaml nor images/ and labels/ with text files. {WISH}.")
        return YoloSet(root, dict(enumerate(_listed_names(root))), pairs, root, False)
    content = _yaml(path)
    if not _is_set(content):
        raise DataError(f"{path} is no data.yaml: it needs names, and train and val. {WISH}.")
    home = path.parent
    base = Path(os.path.expanduser(_text(content.get("path"))))
    splits = {
        key: [entry for entry in map(_text, value if isinstance(value, list) else [value]) if entry]
        for key in ("train", *VALIDATION, "test")
        if (value := content.get(key))
    }
    return YoloSet(
        path,
        _names(content, path),
        splits,
        home / base,
        "kpt_shape" in content,
        root.is_file(),
        _text(content.get("nc")),
    )


def yolo_splits(root: Path) -> tuple[str, ...]:
    """The splits of a folder in YOLO's layout, training first; none where it is not in it."""
    try:
        splits = read_set(root).splits
    except DataError:  # which is told where it is read
        named = [path for path in _yamls(root) if path.name in _YAML]
        splits = _pairs(root) or ({"train": []} if named else {})
    return tuple(sorted(splits, key=lambda name: (not name.startswith("train"), name not in VALIDATION, name)))


def images_of(
    home: Path, about: YoloSet, split: str, entry: str, tally: Tally, outside: bool = False
) -> tuple[list[Path], Path]:
    """The images of a folder, or of a text file of paths, that the yaml has for a split; and the folder they lie in.

    Raises:
        DataError: it is not there, or not in `home` though nothing allows it to be elsewhere.
    """
    path = _where(home, about.base, entry)
    if path is None or path.resolve() == Path(path.anchor or os.sep):  # nobody's images are the whole disk
        fault = "the whole disk" if path else "not there"
        raise DataError(
            f"{about.path} has {split}: {entry}, which is {fault}: looked for it in {about.base}, and for its end in "
            f"{home}. Correct it, or `path`."
        )
    homes = (os.path.abspath(home), os.path.realpath(home))
    if not (outside or any(Path(os.path.abspath(path)).is_relative_to(each) for each in homes)):
        raise DataError(
            f"{about.path} has {split}: {entry}, which is {path}, outside of {home}. Name the yaml itself as "
            "--data.root, or set --data.limits.outside."
        )
    if path.is_dir():
        found = [Path(folder, name) for folder, _, names in os.walk(path) for name in names]
        return sorted(each for each in found if each.suffix.lower() in SUFFIXES), path
    if path.suffix.lower() in SUFFIXES:
        return [path], path.parent
    lines = [line.strip() for line in read_bytes(path).decode("utf-8-sig", errors="replace").splitlines()]
    lines = [line for line in lines if line]
    if not lines:
        return [], path.parent
    folder = find_folder(home, split, path, lines, tally, outside=outside)
    return [folder / each for _, each in found_images(Finder(home, outside), folder, lines, tally)], folder


def _text(value: Any) -> str:
    """A text; of anything else nothing, for what YAML nests by reference is endless as a text."""
    return value if isinstance(value, str) else ""


def _yamls(root: Path) -> list[Path]:
    found = [path for path in root.glob("*") if path.suffix.lower() in _SUFFIXES and path.is_file()]
    return sorted(found, key=lambda path: (path.name not in _YAML, path.name))


def _yaml(path: Path) -> Any:
    try:
        # This loader makes text of everything: `no` is a name, too.
        return yaml.load(read_bytes(path), Loader=yaml.BaseLoader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path} is not valid YAML: {' '.join(str(error).split())}.") from error


def _is_set(content: Any) -> bool:
    return (
        isinstance(content, dict)
        and bool(content.keys() & {"names", "nc"})
        and bool(content.keys() & {"train", *VALIDATION, "test"})
    )


def _names(content: Mapping[str, Any], path: Path) -> dict[int, str]:
    """The name of each class number, from a list, or numbers and names."""
    names, count = content.get("names") or {}, _text(content.get("nc"))
    pairs = list(enumerate(names)) if isinstance(names, list) else []
    pairs = list(names.items()) if isinstance(names, dict) else pairs
    if not pairs and len(count) < 6 and count.isdecimal() and int(count) <= _MOST_CLASSES:
        pairs = [(number, f"class {number}") for number in range(int(count))]
    if not pairs or not all(_is_number(number) and isinstance(name, str) for number, name in pairs):
        raise DataError(f"{path} has names that are neither a list of names nor numbers with names.")
    return {int(number): name for number, name in sorted(pairs, key=lambda pair: int(pair[0]))}


def _is_number(key: Any) -> bool:
    return len(str(key)) < 10 and str(key).isdecimal()


def _pairs(root: Path) -> dict[str, list[str]]:
    """The splits of a folder without a yaml, by the folders that have labels in the place where they belong."""
    found = dict[str, list[str]]()
    for pattern in ("images/*", "*/images", "images"):
        for folder in sorted(root.glob(pattern)):
            beside = root / re.sub("images", "labels", folder.relative_to(root).as_posix(), count=1)
            has_labels = beside.is_dir() and any(path.name != "classes.txt" for path in beside.glob("*.txt"))
            if folder.is_dir() and has_labels and not (pattern == "images" and found):
                name = folder.name if pattern == "images/*" else folder.parent.name
                found["train" if pattern == "images" else name] = [folder.relative_to(root).as_posix()]
    if not found and any((root / name).is_file() for name in _NAMES):
        found = {name: [f"{name}.txt"] for name in ("train", *VALIDATION, "test") if (root / f"{name}.txt").is_file()}
    return found


def _listed_names(root: Path) -> list[str]:
    for name in _NAMES:
        if (root / name).is_file():
            lines = read_bytes(root / name).decode("utf-8-sig", errors="replace").splitlines()
            return [line.strip() for line in lines if line.strip()]
    raise DataError(f"{root} says nowhere what its classes are called. Write data.yaml with names, train and val.")


def _where(home: Path, base: Path, entry: str) -> Path | None:
    """A path of the yaml: in its own folder, or where it says, or the longest end of it that is there."""
    finder = Finder(home, outside=True)  # what is found is asked afterwards where it lies
    ends = [home / place.path for place in finder.places(str(home), entry)]
    if len(ends) == 1 and (".." in entry or finder.exactly(str(home), entry)):
        return ends[0]
    return base / entry if os.path.exists(base / entry) else ends[0] if len(ends) == 1 else None
