"""A folder in YOLO's layout, as Ultralytics, Roboflow and CVAT write it: images/, labels/ and data.yaml."""

import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import yaml

from vitjax.data.annotated_files import AnnotatedFiles, Listing, open_listing
from vitjax.data.decode import is_turned, read_size
from vitjax.data.errors import DataError, Tally
from vitjax.data.folder import VALIDATION, aliases, in_threads, read_bytes
from vitjax.data.image_paths import Finder, find_folder, found_images
from vitjax.data.memory import SUFFIXES

WISH = "Name a folder in YOLO's layout, or its data.yaml, --data.root FOLDER"

_YAML = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")
_NAMES = ("classes.txt", "obj.names", "labels/classes.txt")  # of folders without a yaml
_MANY_PIXELS = 0.5  # the share of boxes with coordinates above 1 from which on none of them is relative
_SHARE = 1.01  # the largest coordinate that is one, with what rounding adds


@dataclass(frozen=True)
class YoloFolder:
    """Images in YOLO's layout, with a text file of labels for each: class, centre x and y, width and height as shares.

    `data.yaml` names classes and splits; a split is a folder, several, or a text file of image paths. Without one the
    folders are images/<split> or <split>/images, and the names stand in classes.txt. The labels of `images/a.jpg` are
    in `labels/a.txt`, or beside it. Lines of more numbers are polygons, whose box is taken. An image without labels has
    no objects. Images are turned upright as EXIF says, for labels are drawn on what viewers show. Category ids are the
    class numbers.
    """

    task: ClassVar[str] = "detection"

    root: str = ""
    """The folder that holds data.yaml, or the path of the yaml."""
    train_split: str = "train"
    """Split to train on."""
    split: str = "val"
    """Split to evaluate on."""

    def open(self, split: str) -> AnnotatedFiles:
        """The images and labels of a split; what is skipped or mended is in its `problems`.

        Raises:
            DataError: files are missing or are not what they should be, no image can be used, labels are in pixels, or
                the split is the one to train on and no label can be used.
        """
        root, tally = _root(self.root), Tally()
        return open_listing(read_yolo(root, split, tally), tally, training=split == self.train_split)


class _Set(NamedTuple):
    """What is said of a data set: where, the names of classes, and what each split is; `base` is where paths begin."""

    path: Path
    names: dict[int, str]
    splits: dict[str, list[str]]
    base: Path
    keypoints: bool


class _Label(NamedTuple):
    """What is known of an image: its (height, width) upright, its boxes, and faults as (kind, example)."""

    size: tuple[int, int] | None
    rows: list[tuple[int, float, float, float, float]]
    faults: list[tuple[str, str]]
    lacks: bool


def read_yolo(root: Path, split: str, tally: Tally) -> Listing:
    """What the label files of a split say, in COCO's form.

    Raises:
        DataError: as `YoloFolder.open`, as far as it shows without a look at the boxes as a whole.
    """
    about = _read_set(root)
    home = about.path if about.path.is_dir() else about.path.parent
    key = next((name for name in aliases(split) if name in about.splits), None)
    if key is None:
        there = ", ".join(about.splits) or "none"
        raise DataError(
            f"{about.path} has no split {split!r}; there are: {there}. Name one that is there (--data.split, "
            "--data.train-split), or divide the images."
        )
    files = [path for entry in about.splits[key] for path in _images(home, about, key, entry, tally)]
    files = list(dict.fromkeys(files))
    if not files:
        raise DataError(f"the split {key!r} of {about.path}, {', '.join(about.splits[key])}, has no images.")
    beside = _Labels(about.keypoints)
    labels = in_threads(beside.read, files)
    _require_labels(about.path, key, files, labels, tally)
    images, annotations = list[dict[str, Any]](), list[dict[str, Any]]()
    for path, label in zip(files, labels, strict=True):
        for kind, example in label.faults:
            tally.add(kind, example)
        if label.size is None:
            continue
        height, width = label.size
        name = os.path.relpath(path, home) if path.is_relative_to(home) else str(path)
        images.append({"id": len(images) + 1, "file_name": name, "height": height, "width": width})
        for number, x, y, wide, high in label.rows:
            wide, high, x, y = wide * width, high * height, (x - wide / 2) * width, (y - high / 2) * height
            ids: dict[str, Any] = {"id": len(annotations) + 1, "image_id": len(images), "category_id": number}
            annotations.append({**ids, "bbox": [x, y, wide, high], "area": wide * high, "iscrowd": 0})
    categories = [{"id": number, "name": name} for number, name in about.names.items()]
    document = {"images": images, "annotations": annotations, "categories": categories}
    return Listing(home, split, about.path, document, folder=home, upright=True)


def yolo_splits(root: Path) -> tuple[str, ...]:
    """The splits of a folder in YOLO's layout, training first; none where it is not in it."""
    try:
        splits = _read_set(root).splits
    except DataError:
        splits = _pairs(root)
    return tuple(sorted(splits, key=lambda name: (not name.startswith("train"), name not in VALIDATION, name)))


def _root(root: str) -> Path:
    path = Path(root).expanduser()
    if not root or not path.exists():
        raise DataError(f"{f'{path} does not exist' if root else 'no data folder is given'}. {WISH}.")
    return path


def _read_set(root: Path) -> _Set:
    path = root if root.is_file() else next((each for each in _yamls(root) if _is_set(_yaml(each))), None)
    if path is None:
        pairs = _pairs(root)
        if not pairs:
            raise DataError(f"{root} has neither a data.yaml nor images/ and labels/ with text files. {WISH}.")
        return _Set(root, dict(enumerate(_listed_names(root))), pairs, root, False)
    content = _yaml(path)
    if not _is_set(content):
        raise DataError(f"{path} is no data.yaml: it needs names, and train and val. {WISH}.")
    home = path.parent
    base = Path(os.path.expanduser(str(content.get("path") or "")))
    splits = {
        key: [str(entry) for entry in (value if isinstance(value, list) else [value]) if entry]
        for key in ("train", *VALIDATION, "test")
        if (value := content.get(key))
    }
    return _Set(path, _names(content, path), splits, home / base, "kpt_shape" in content)


def _yamls(root: Path) -> list[Path]:
    found = [path for path in root.glob("*") if path.suffix.lower() in (".yaml", ".yml") and path.is_file()]
    return sorted(found, key=lambda path: (path.name not in _YAML, path.name))


def _yaml(path: Path) -> Any:
    try:
        return yaml.load(
            read_bytes(path), Loader=yaml.BaseLoader
        )  # which makes text of everything: `no` is a name, too
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
    names, count = content.get("names") or {}, str(content.get("nc", ""))
    pairs = (
        list(names.items()) if isinstance(names, dict) else list(enumerate(names)) if isinstance(names, list) else []
    )
    if not pairs and count.isdecimal():
        pairs = [(number, f"class {number}") for number in range(int(count))]
    if not pairs or not all(str(number).isdecimal() and isinstance(name, str) for number, name in pairs):
        raise DataError(f"{path} has names that are neither a list nor numbers with names: {str(names)[:80]}.")
    return {int(number): name for number, name in sorted(pairs, key=lambda pair: int(pair[0]))}


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


def _images(home: Path, about: _Set, split: str, entry: str, tally: Tally) -> list[Path]:
    """The images of a folder, or of a text file of paths, which the yaml names."""
    path = _where(home, about.base, entry)
    if path is None:
        raise DataError(
            f"{about.path} has {split}: {entry}, which is not there: looked for it in {about.base}, and for its end in "
            f"{home}. Correct it, or `path`."
        )
    if path.is_dir():
        found = [Path(folder, name) for folder, _, names in os.walk(path) for name in names]
        return sorted(each for each in found if each.suffix.lower() in SUFFIXES)
    if path.suffix.lower() in SUFFIXES:
        return [path]
    lines = [line.strip() for line in read_bytes(path).decode("utf-8-sig", errors="replace").splitlines()]
    lines = [line for line in lines if line]
    if not lines:
        return []
    folder = find_folder(home, split, path, lines)
    return [folder / each for _, each in found_images(home, folder, lines, tally)]


def _where(home: Path, base: Path, entry: str) -> Path | None:
    """A path of the yaml: in its own folder, or where it says, or the longest end of it that is there."""
    finder = Finder(home)
    ends = [home / place.path for place in finder.places(str(home), entry)]
    if len(ends) == 1 and (".." in entry or finder.exactly(str(home), entry)):
        return ends[0]
    return base / entry if (base / entry).exists() else ends[0] if len(ends) == 1 else None


class _Labels:
    """The label files of images; every folder is listed once."""

    def __init__(self, keypoints: bool) -> None:
        self._keypoints = keypoints
        self._listed: dict[str, frozenset[str]] = {}

    def read(self, image: Path) -> _Label:
        """What is known of an image and its label file."""
        try:
            with image.open("rb") as file:
                height, width = read_size(file, str(image))
                file.seek(0)
                size = (width, height) if is_turned(file, str(image)) else (height, width)
        except (DataError, OSError) as error:
            return _Label(None, [], [("left out images that cannot be read", str(error))], False)
        path = self._path(image)
        if path is None:
            return _Label(size, [], [], True)
        rows, faults = list[tuple[int, float, float, float, float]](), list[tuple[str, str]]()
        for line in read_bytes(path).decode("utf-8-sig", errors="replace").splitlines():
            if line.strip():
                row = _row(line.split(), self._keypoints)
                if row is None:
                    faults.append(("skipped lines that are no class with a box or polygon", f"{line[:80]!r} in {path}"))
                else:
                    rows.append(row)
        return _Label(size, rows, faults, False)

    def _path(self, image: Path) -> Path | None:
        head, images, tail = str(image.parent).rpartition("images")
        whole = images and (not head or head[-1] == os.sep) and (not tail or tail[0] == os.sep)
        for folder in ([f"{head}labels{tail}"] if whole else []) + [str(image.parent)]:
            if folder not in self._listed:
                self._listed[folder] = frozenset(os.listdir(folder)) if os.path.isdir(folder) else frozenset()
            if f"{image.stem}.txt" in self._listed[folder]:
                return Path(folder, f"{image.stem}.txt")
        return None


def _row(words: Sequence[str], keypoints: bool) -> tuple[int, float, float, float, float] | None:
    """Class, centre, width and height of a line; None where it is neither a box nor a polygon."""
    try:
        kind, *numbers = (float(word) for word in words)
    except ValueError:
        return None
    if not (all(map(math.isfinite, (kind, *numbers))) and kind >= 0 and kind.is_integer()):
        return None
    if keypoints and len(numbers) > 4:
        numbers = numbers[:4]
    if len(numbers) == 4:
        x, y, wide, high = numbers
        return int(kind), x, y, wide, high
    if len(numbers) < 6 or len(numbers) % 2:
        return None
    xs, ys = numbers[::2], numbers[1::2]
    left, top, right, bottom = min(xs), min(ys), max(xs), max(ys)
    return int(kind), (left + right) / 2, (top + bottom) / 2, right - left, bottom - top


def _require_labels(path: Path, split: str, files: Sequence[Path], labels: Sequence[_Label], tally: Tally) -> None:
    """Counts images without labels. Raises a DataError where none has any, or they are in pixels."""
    bare = [file for file, label in zip(files, labels, strict=True) if label.lacks]
    if len(bare) == len(files):
        raise DataError(
            f"no image of the split {split!r} of {path} has a label file: looked for {bare[0].stem}.txt, for "
            f"{bare[0]}, in labels/ in the place of images/, and beside it."
        )
    if bare:
        tally.add("took images without a label file as images without objects", str(bare[0]), len(bare))
    rows = [row for label in labels for row in label.rows]
    pixels = [row for row in rows if max(map(abs, row[1:])) > _SHARE]
    if len(pixels) > _MANY_PIXELS * len(rows):
        first = " ".join(f"{number:g}" for number in pixels[0])
        raise DataError(
            f"{path}: labels seem to be in pixels: {len(pixels) / len(rows):.0%} have a coordinate above 1 (first: "
            f"{first}). Write class, centre x and y, width and height as shares of the image."
        )
