"""The lists and XML files of Pascal VOC's layout."""

import itertools
import math
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

from vitjax.data.annotated_files import Listing
from vitjax.data.errors import DataError, Tally
from vitjax.data.folder import VALIDATION, aliases, in_threads, read_bytes
from vitjax.data.memory import SUFFIXES
from vitjax.data.source import LIMITS, Limits
from vitjax.data.voc import WISH

_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_OF_A_CLASS = re.compile(r".+_(train|val|trainval|test)")  # lists of VOC that say which images have a class
_MANY_BYTES = re.compile(rb"""<\?xml[^>]*encoding=["'](gb\w+|big5|euc[-_]\w+|shift[-_]jis)""", re.IGNORECASE)
_MOST_BYTES = 2**24  # of an XML file
_NEARLY_ALL = 0.95


class _Split(NamedTuple):
    """Where a split is written, its images in `folder` and XML files in `scenes`, and the stems of both."""

    path: Path
    folder: Path
    scenes: Path
    stems: list[str]


class _Scene(NamedTuple):
    """What an XML file says; objects are (name, xmin, ymin, xmax, ymax, difficult)."""

    file_name: str
    size: dict[str, int]
    objects: list[tuple[str, float, float, float, float, bool]]
    faults: list[str]


def read_voc(root: Path, split: str, tally: Tally, classes: Sequence[str] = (), limits: Limits = LIMITS) -> Listing:
    """What the XML files of a split say, in COCO's form.

    Raises:
        DataError: as `VocFolder.open`, as far as it shows without a look at the images.
    """
    splits = _splits(root)
    key = next((name for name in aliases(split) if name in splits), None)
    if key is None:
        there = ", ".join(splits) or "none"
        wish = f"Name one that is there (--data.split, --data.train-split). {WISH}"
        raise DataError(f"{root} has no list ImageSets/Main/{split}.txt; there are: {there}. {wish}")
    if len(homes := _homes(root)) > 1:
        raise DataError(f"{root} holds several data sets in VOC's layout; name one: {', '.join(map(str, homes[:6]))}.")
    part = splits[key]
    scenes = dict(
        zip(part.stems, in_threads(lambda stem: _scene(part.scenes / f"{stem}.xml"), part.stems), strict=True)
    )
    names = dict.fromkeys(classes) or _every_name(splits, part, scenes)
    label_of = {name: label for label, name in enumerate(names)}
    files = _by_stem(part.folder)
    images, annotations = list[dict[str, Any]](), list[dict[str, Any]]()
    for stem, scene in scenes.items():
        if isinstance(scene, str):
            tally.add("left out images whose annotations cannot be read", scene)
            continue
        file_name = files.get(stem) or scene.file_name or f"{stem}.jpg"
        images.append({"id": len(images) + 1, "file_name": file_name, **scene.size})
        for fault in scene.faults:
            tally.add("skipped objects without a name or four numbers as bndbox", fault)
        for name, left, top, right, bottom, difficult in scene.objects:
            box = [left - 1, top - 1, right - left + 1, bottom - top + 1]
            ids = {"id": len(annotations) + 1, "image_id": len(images), "category_id": label_of.get(name, name)}
            annotations.append({**ids, "bbox": box, "area": box[2] * box[3], "iscrowd": int(difficult)})
    _require_pixels(
        part.path, [each for scene in scenes.values() if not isinstance(scene, str) for each in scene.objects]
    )
    categories = [{"id": label, "name": name} for name, label in label_of.items()]
    document = {"images": images, "annotations": annotations, "categories": categories}
    return Listing(root, split, part.path, document, folder=part.folder, limits=limits)


def voc_splits(root: Path) -> tuple[str, ...]:
    """The splits of a folder in VOC's layout, training first; none where it is not in it."""
    return tuple(sorted(_splits(root), key=lambda name: (not name.startswith("train"), name not in VALIDATION, name)))


def _splits(root: Path) -> dict[str, _Split]:
    if homes := _homes(root):
        home, lists = homes[0], sorted((homes[0] / "ImageSets" / "Main").glob("*.txt"))
        chosen = [path for path in lists if not _OF_A_CLASS.fullmatch(path.stem)] or lists
        folder = home / "JPEGImages"
        return {path.stem: _Split(path, folder, home / "Annotations", _stems(path)) for path in chosen}
    found = {}
    for folder in sorted(root.glob("*")):
        stems = sorted(path.stem for path in folder.glob("*.xml")) if folder.is_dir() else []
        if stems and any(name in stems for name in _by_stem(folder)):
            found[folder.name] = _Split(folder, folder, folder, stems)
    return found or _without_lists(root)


def _without_lists(root: Path) -> dict[str, _Split]:
    """All images as one split to train on, where nobody has divided them."""
    for scenes, folder in itertools.product(("Annotations", "annotations"), ("JPEGImages", "images")):
        stems = sorted(path.stem for path in (root / scenes).glob("*.xml"))
        if stems and (root / folder).is_dir():
            return {"train": _Split(root / scenes, root / folder, root / scenes, stems)}
    return {}


def _homes(root: Path) -> list[Path]:
    """The folders with Annotations and lists: the root itself, or those in it, or one deeper."""
    for pattern in ("Annotations", "*/Annotations", "*/*/Annotations"):
        homes = [path.parent for path in sorted(root.glob(pattern))]
        if homes := [home for home in homes if any((home / "ImageSets" / "Main").glob("*.txt"))]:
            return homes
    return []


def _stems(path: Path) -> list[str]:
    """The images of a list: the first word of each line, where 1, 0 or -1 may stand behind it."""
    lines = read_bytes(path).decode("utf-8-sig", errors="replace").splitlines()
    names = (re.sub(r"\s+-?[01]$", "", line.strip()) for line in lines)
    stems = (name[: -len(Path(name).suffix)] if name.lower().endswith(SUFFIXES) else name for name in names)
    return list(dict.fromkeys(stem for stem in stems if stem and ".." not in stem and not stem.startswith("/")))


def _by_stem(folder: Path) -> dict[str, str]:
    names = sorted(os.listdir(folder)) if folder.is_dir() else []
    return {os.path.splitext(name)[0]: name for name in names if name.lower().endswith(SUFFIXES)}


def _every_name(splits: dict[str, _Split], part: _Split, scenes: dict[str, "_Scene | str"]) -> dict[str, None]:
    """The names of all objects in all splits, sorted."""
    paths = {each.scenes / f"{stem}.xml" for each in splits.values() for stem in each.stems}
    others = sorted(paths - {part.scenes / f"{stem}.xml" for stem in scenes})
    every = [*scenes.values(), *in_threads(_scene, others)]
    return dict.fromkeys(sorted({each[0] for scene in every if not isinstance(scene, str) for each in scene.objects}))


def _scene(path: Path) -> "_Scene | str":
    """What an XML file says, or why it cannot be read."""
    try:
        data = read_bytes(path)
        declared = _MANY_BYTES.match(data)  # which the parser does not know
        encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else declared and declared[1].decode()
        data = data.decode(encoding).encode() if encoding else data
        if len(data) > _MOST_BYTES or b"\0" in data or re.search(rb"<!(doctype[^<>[]*\[|entity)", data, re.IGNORECASE):
            wish = f"declares entities, is in UTF-16 without a mark, or has more than {_MOST_BYTES:,} bytes"
            return f"{path} is no plain XML: it {wish}"
        tree = ElementTree.fromstring(data, ElementTree.XMLParser(encoding="utf-8" if encoding else None))
    except DataError as error:
        return str(error)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        return f"{path} is not valid XML: {error}"
    size = {side: _number(tree.findtext(f"size/{side}")) for side in ("height", "width")}
    known = {side: int(length) for side, length in size.items() if length >= 1}
    objects, faults = list[tuple[str, float, float, float, float, bool]](), list[str]()
    for element in tree.iter("object"):
        name, corners = (element.findtext("name") or "").strip(), _corners(element)
        if name and all(map(math.isfinite, corners)):
            objects.append((name, *corners, _number(element.findtext("difficult")) == 1))
        else:
            faults.append(f"{name or 'an object'} in {path}")
    return _Scene((tree.findtext("filename") or "").strip(), known, objects, faults)


def _corners(element: ElementTree.Element) -> tuple[float, float, float, float]:
    """The corners of an object; of one with a polygon only, those of the polygon."""
    left, top, right, bottom = (_number(element.findtext(f"bndbox/{corner}")) for corner in _CORNERS)
    points = element.find("polygon")
    if not math.isfinite(left + top + right + bottom) and points is not None:
        xs, ys = ([_number(each.text) for each in points.iter() if each.tag[:1] == axis] for axis in "xy")
        if xs and ys:
            return min(xs), min(ys), max(xs), max(ys)
    return left, top, right, bottom


def _number(text: str | None) -> float:
    """A finite number, or NaN."""
    try:
        number = float(text or "")
    except ValueError:
        return math.nan
    return number if math.isfinite(number) else math.nan


def _require_pixels(path: Path, objects: Sequence[tuple[str, float, float, float, float, bool]]) -> None:
    relative = [each for each in objects if 0 <= min(each[1:5]) and max(each[1:5]) <= 1]
    if len(relative) > _NEARLY_ALL * len(objects):
        raise DataError(
            f"{path}: boxes seem to be relative to their image: {len(relative) / len(objects):.0%} have no coordinate "
            f"above 1 (first: {list(relative[0][1:5])}). Write xmin, ymin, xmax and ymax in pixels."
        )
