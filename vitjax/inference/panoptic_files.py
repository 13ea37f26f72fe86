"""Segments of images in COCO's panoptic form: a PNG for each image, and a json that tells of all of them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from vitjax.data.label_names import stuff_of
from vitjax.data.mask_source import PanopticMap
from vitjax.data.panoptic_png import in_panoptic_form
from vitjax.data.source import Classes
from vitjax.inference.inputs import picture_paths
from vitjax.prediction import names_of

NAME = "panoptic_segments"
"""The json, and the folder of the PNGs beside it: a split that the official scorer and `CocoPanoptic` read."""


class PanopticFiles:
    """Writes `<out>/panoptic_segments/`, an image at a time, and at the end `<out>/panoptic_segments.json`."""

    def __init__(self, out: Path, paths: Sequence[Path], classes: Classes) -> None:
        """Writes nothing yet; `paths` are all the images."""
        self._out, self._paths, self._classes, self._ids = out, paths, classes, image_ids(paths)
        self._labels: set[int] = set()
        self._entries: dict[int, tuple[dict[str, Any], dict[str, Any]]] = {}

    def add(self, record: int, picture: str, found: PanopticMap) -> None:
        """Writes the segments of an image into a PNG of this name.

        Raises:
            DataError: a PNG would take the place of one of the images.
        """
        folder = self._out / NAME
        if not self._entries:
            picture_paths(self._paths, folder)
            folder.mkdir(parents=True, exist_ok=True)
        pixels, annotation = in_panoptic_form(found, self._ids[record], picture, self._classes)
        Image.fromarray(pixels).save(folder / picture)
        self._labels |= set(found.labels.tolist())
        height, width = found.owner.shape
        image = {"id": self._ids[record], "file_name": self._paths[record].name, "height": height, "width": width}
        self._entries[record] = image, annotation

    def close(self) -> None:
        """Writes the json of what came until now; nothing where nothing came."""
        if not self._entries:
            return
        entries = [self._entries[record] for record in sorted(self._entries)]
        content = {
            "images": [image for image, _ in entries],
            "annotations": [annotation for _, annotation in entries],
            "categories": self._categories(),
        }
        (self._out / f"{NAME}.json").write_text(json.dumps(content) + "\n", encoding="utf-8")

    def told(self, images: int) -> list[str]:
        """Lines on how many of so many images there are segments of."""
        written, rest = len(self._entries), images - len(self._entries)
        lines = [f"segments in COCO's panoptic form, of {written} images: {self._out / NAME}.json"] if written else []
        return lines + ([f"{rest} images were put together from tiles, of which no segments are made"] * (rest > 0))

    def _categories(self) -> list[dict[str, Any]]:
        """The classes that have names, and what else was found."""
        stuff, named = stuff_of(self._classes), {place for place, name in enumerate(self._classes.names) if name}
        labels = sorted(named | self._labels)
        ids = [self._classes.category_ids[label] if label < len(self._classes) else label for label in labels]
        return [
            {"id": id_, "name": name, "isthing": int(label not in stuff)}
            for id_, name, label in zip(ids, names_of(self._classes, labels), labels, strict=True)
        ]


def image_ids(paths: Sequence[Path]) -> list[int]:
    """The numbers that the files are called by, as COCO's are; 1, 2, 3, ... where they are not, or not each its own."""
    names = [path.stem for path in paths]
    if all(name.isascii() and name.isdecimal() for name in names):
        numbers = [int(name) for name in names]
        if len(set(numbers)) == len(numbers):
            return numbers
    return list(range(1, len(paths) + 1))
