"""The label files of YOLO's layout: a line for each object, with its class and shares of the image."""

import math
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from vitjax.data.annotated_files import Listing
from vitjax.data.decode import read_upright_size
from vitjax.data.errors import DataError, Tally
from vitjax.data.folder import aliases, in_threads, open_file, read_bytes
from vitjax.data.source import LIMITS, Limits
from vitjax.data.yolo_set import images_of, read_set

_MANY_PIXELS = 0.5  # the share of boxes with coordinates above 1 from which on none of them is relative
_ENOUGH, _NEARLY_ALL, _MANY_BEYOND, _SOME_BEYOND = 5, 0.95, 0.3, 0.1  # as of boxes in COCO format
_SHARE = 1.01  # the largest coordinate that is one, with what rounding adds


class _Label(NamedTuple):
    """What is known of an image: its (height, width) upright, its boxes, and faults as (kind, example)."""

    size: tuple[int, int] | None
    rows: list[tuple[int, float, float, float, float]]
    faults: list[tuple[str, str]]
    lacks: bool


def read_yolo(root: Path, split: str, tally: Tally, limits: Limits = LIMITS) -> Listing:
    """What the label files of a split say, in COCO's form.

    Raises:
        DataError: as `YoloFolder.open`, as far as it shows without a look at the boxes as a whole.
    """
    about = read_set(root)
    if about.told and about.told != str(len(about.names)):
        tally.add(
            "took the classes of names, of which nc has another number", f"nc {about.told}, names {len(about.names)}"
        )
    home = about.path if about.path.is_dir() else about.path.parent
    key = next((name for name in aliases(split) if name in about.splits), None)
    if key is None:
        there = ", ".join(about.splits) or "none"
        raise DataError(
            f"{about.path} has no split {split!r}; there are: {there}. Name one that is there (--data.split, "
            "--data.train-split), or divide the images."
        )
    limits = replace(limits, outside=limits.outside or about.is_named)
    found = [images_of(home, about, key, entry, tally, limits.outside) for entry in about.splits[key]]
    files = list(dict.fromkeys(path for images, _ in found for path in images))
    if not files:
        raise DataError(f"the split {key!r} of {about.path}, {', '.join(about.splits[key])}, has no images.")
    beside = _Labels(about.keypoints, limits.pixels)
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
    also = tuple(folder for _, folder in found)
    return Listing(home, split, about.path, document, folder=home, upright=True, also=also, limits=limits)


class _Labels:
    """The label files of images; every folder is listed once."""

    def __init__(self, keypoints: bool, limit: int) -> None:
        self._keypoints, self._limit = keypoints, limit
        self._listed: dict[str, frozenset[str]] = {}

    def read(self, image: Path) -> _Label:
        """What is known of an image and its label file."""
        try:
            with open_file(image) as file:
                size = read_upright_size(file, str(image), self._limit)
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
    if strange := _strange(np.array(rows, np.float64).reshape(-1, 5)[:, 1:]):
        first = " ".join(f"{number:g}" for number in rows[0])
        wish = "Write class, centre x and y, width and height as shares of the image."
        raise DataError(f"{path}: {strange} (first: {first}). {wish}")


def _strange(boxes: Float[np.ndarray, "objects 4"]) -> str:
    """What boxes seem to be that are no centre, width and height in shares; "" where they seem to be."""
    centre, extent = boxes[:, :2], boxes[:, 2:]
    pixels = (np.abs(boxes) > _SHARE).any(1)
    if pixels.sum() > _MANY_PIXELS * len(boxes):
        return f"labels seem to be in pixels: {pixels.mean():.0%} have a coordinate above 1"
    if len(boxes) < _ENOUGH:
        return ""
    beyond = ((centre + extent / 2 > _SHARE) | (centre - extent / 2 < 1 - _SHARE)).any(1).mean()
    out = f"read as they should be, {beyond:.0%} reach out of their image"
    if beyond > _MANY_BEYOND and (extent > centre).all(1).mean() > _NEARLY_ALL:
        return f"labels seem to be [x1, y1, x2, y2]: {out}"
    if beyond > _SOME_BEYOND and (centre + extent <= _SHARE).all(1).mean() > _NEARLY_ALL:
        return f"labels seem to be [left, top, width, height]: {out}"
    return ""
