"""The images of a detection data set that TensorFlow Datasets has prepared, read without TensorFlow."""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from vitjax.data.annotations import AnnotatedImages, Annotations, tidy
from vitjax.data.decode import decode, read_size
from vitjax.data.errors import DataError, Tally
from vitjax.data.source import LIMITS, Classes, Limits, Sample
from vitjax.data.tfds_prepared import PreparedSplit, find_split, read_record

COCO_CATEGORY_IDS = tuple(sorted(set(range(1, 91)) - {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}))
"""The 80 category ids that COCO uses, in order: the id of each of the labels 0 to 79 that TFDS has."""

_AT_ONCE = 64  # records read in one go


def read_tfds(
    data_dir: str, name: str, split: str, *, labels: str, training: bool, limits: Limits = LIMITS
) -> "TfdsImages":
    """The images and annotations of a split; what is skipped or mended is in its `problems`.

    Raises:
        DataError: the data are not prepared, or not as array_record, or have no such split or features.
    """
    found = find_split(data_dir, name, split)
    records, names, is_coco = _records(found)
    classes, slots = _classes(names, is_coco, labels)
    images = _look_through(records, classes, slots, f"{name} {split}", limits)
    if not images.names or (training and not images.max_objects):
        lines = " ".join(f"{line}." for line in images.problems)
        fault = f"{found.folder} has nothing to use in its split {split!r}. Name another split."
        raise DataError(f"{fault} {lines}".rstrip())
    return images


@dataclass(frozen=True, eq=False)
class TfdsImages(AnnotatedImages):
    """One split of a `TfdsCoco`, opened; a Source. Image ids are COCO's own where TFDS has kept them."""

    records: Any  # a TFDS data source: records as dictionaries, by number
    numbers: tuple[int, ...]  # of each image, which of TFDS's records it is
    pixels: int = LIMITS.pixels

    def __getitem__(self, record: int) -> Sample:
        """The image and its objects, boxes clamped to the image, crowds left out.

        Raises:
            DataError: the record or its image cannot be read.
        """
        name = self.name(record)
        entry = read_record(self.records, self.numbers[record], name)
        boxes, labels = self.annotations.targets(record, self.sizes[record].tolist())
        return Sample(decode(entry["image"], name, limit=self.pixels), boxes, labels)


def _records(found: PreparedSplit) -> tuple[Any, list[str], bool]:
    """The records of a split with images left as bytes, the names of the labels, and whether it is COCO."""
    features = found.features
    objects = getattr(features["objects"], "feature", {}) if {"image", "objects"} <= set(features) else {}
    if not {"bbox", "label"} <= set(objects):
        wish = "not image and objects with bbox and label, as coco has"
        raise DataError(f"{found.folder} has {', '.join(features)}, {wish}.")
    names = list(objects["label"].names)
    return found.records(), names, found.builder.name == "coco" and len(names) == len(COCO_CATEGORY_IDS)


def _classes(names: list[str], is_coco: bool, labels: str) -> tuple[Classes, Int[np.ndarray, " labels"]]:
    """What the labels mean, and the label for each of those that TFDS has."""
    ids = COCO_CATEGORY_IDS if is_coco else tuple(range(1, len(names) + 1))
    if labels == "contiguous":
        return Classes(tuple(names), ids), np.arange(len(names))
    named = dict(zip(ids, names, strict=True))
    slots = tuple(range(ids[-1] + 1))
    return Classes(tuple(named.get(slot, "") for slot in slots), slots), np.array(ids)


def _look_through(
    records: Any, classes: Classes, slots: Int[np.ndarray, " labels"], where: str, limits: Limits
) -> TfdsImages:
    """The images of all records that can be read, from their headers."""
    numbers: list[int] = []
    sizes, ids, names, rows, tally = [], [], [], [], Tally()
    for number, entry in enumerate(_entries(records)):
        name = entry.get("image/filename", f"record {number}".encode()).decode()
        try:
            size = read_size(io.BytesIO(entry["image"]), name, limits.pixels)
        except DataError as error:
            tally.add("left out images that cannot be read", str(error))
            continue
        rows.append(_rows(len(numbers), entry["objects"], size))
        numbers.append(number)
        sizes.append(size)
        ids.append(int(entry.get("image/id", number + 1)))
        names.append(name)
    table = np.concatenate(rows or [np.zeros((0, 8))])
    unlabelled = table[:, 5] < 0
    if unlabelled.any():
        first = names[int(table[np.argmax(unlabelled), 0])]
        tally.add("skipped annotations without a label", first, int(unlabelled.sum()))
    table = table[~unlabelled]
    record, label = table[:, 0].astype(np.int32), slots[table[:, 5].astype(int)].astype(np.int32)
    annotations = Annotations(record, table[:, 1:5], label, table[:, 6], table[:, 7] == 1)
    extents = np.array(sizes, np.int32).reshape(-1, 2)
    tidied = tidy(annotations, extents, names, tally, limits.objects)
    known = (classes, extents, tuple(ids), tuple(names), tidied, tally.lines(where))
    return TfdsImages(*known, records, tuple(numbers), limits.pixels)


def _rows(record: int, objects: dict, size: tuple[int, int]) -> Float[np.ndarray, "objects 8"]:
    """Record, xyxy in pixels, label, area and crowd of an image's objects."""
    label = np.asarray(objects["label"], np.float64)
    top, left, bottom, right = np.asarray(objects["bbox"], np.float64).reshape(-1, 4).T
    box = (left * size[1], top * size[0], right * size[1], bottom * size[0])
    nothing = np.zeros(len(label))
    area, crowd = objects.get("area", nothing), objects.get("is_crowd", nothing)
    return np.stack([np.full(len(label), record), *box, label, area, crowd], axis=1)


def _entries(records: Any) -> Iterator[dict]:
    for start in range(0, len(records), _AT_ONCE):
        yield from records.__getitems__(range(start, min(start + _AT_ONCE, len(records))))
