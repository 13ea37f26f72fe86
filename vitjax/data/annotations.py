"""The table of all annotations of a data set, checked once; targets for training and ground truth for scoring."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from vitjax.data.errors import Tally
from vitjax.data.source import LIMITS, Classes

BOX_WISH = "Write bbox as [x, y, width, height] in pixels."

_TOLERANCE = 1.0  # pixels: coordinates rounded by the annotation tool reach this far out of the image
_ENOUGH = 5  # boxes from which on their coordinates as a whole tell something
_NEARLY_ALL = 0.95
_MANY_BEYOND = 0.3
_SOME_BEYOND = 0.1


@dataclass(frozen=True, eq=False)
class Annotations:
    """One row for every annotation, in the order of the records; boxes are xyxy in pixels, crowds are included.

    `entries` are their places in the list that they were read from, where somebody needs more of them.
    """

    records: Int[np.ndarray, " objects"]
    boxes: Float[np.ndarray, "objects 4"]
    labels: Int[np.ndarray, " objects"]
    areas: Float[np.ndarray, " objects"]
    crowds: Bool[np.ndarray, " objects"]
    entries: Int[np.ndarray, " objects"] | None = None

    @property
    def max_objects(self) -> int:
        """The most objects on one image, crowds not counted."""
        return int(np.bincount(self.records[~self.crowds]).max(initial=0))

    def take(self, rows: Int[np.ndarray, " rows"]) -> "Annotations":
        """The rows of these numbers."""
        return replace(self, **{name: column[rows] for name, column in vars(self).items() if column is not None})

    def targets(self, record: int, size: Sequence[int]) -> tuple[Float[np.ndarray, "n 4"], Int[np.ndarray, " n"]]:
        """Boxes (clamped to an image of `size`, height and width) and labels of a record's objects, without crowds.

        Source: facebookresearch/detr, datasets/coco.py, ConvertCocoPolysToMask.
        """
        start, stop = np.searchsorted(self.records, (record, record + 1))
        single = ~self.crowds[start:stop]
        boxes = _clamp(self.boxes[start:stop][single], np.asarray(size))
        return boxes.astype(np.float32), self.labels[start:stop][single].astype(np.int32)

    def instances(
        self, image_ids: Sequence[int], names: Sequence[str], sizes: Int[np.ndarray, "records 2"], classes: Classes
    ) -> dict:
        """COCO instances of the whole table; annotation ids are 1 to n, since pycocotools goes wrong over id 0."""
        corners = self.boxes
        xywh = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
        columns = (self.records, self.labels, xywh, self.areas, self.crowds)
        rows = zip(*(column.tolist() for column in columns), strict=True)
        images = zip(image_ids, names, sizes.tolist(), strict=True)
        named = zip(classes.category_ids, classes.names, strict=True)
        return {
            "info": {},
            "images": [
                {"id": image_id, "file_name": name, "height": height, "width": width}
                for image_id, name, (height, width) in images
            ],
            "annotations": [
                {
                    "id": number,
                    "image_id": image_ids[record],
                    "category_id": classes.category_ids[label],
                    "bbox": box,
                    "area": area,
                    "iscrowd": int(crowd),
                }
                for number, (record, label, box, area, crowd) in enumerate(rows, start=1)
            ],
            "categories": [{"id": category_id, "name": name} for category_id, name in named if name],
        }


@dataclass(frozen=True, eq=False)
class AnnotatedImages:
    """What is known of one split of images with boxes, opened; with `__getitem__` a DetectionSource."""

    classes: Classes
    sizes: Int[np.ndarray, "records 2"]
    image_ids: tuple[int, ...]
    names: tuple[str, ...]
    annotations: Annotations
    problems: tuple[str, ...]

    @property
    def max_objects(self) -> int:
        """The most objects on any one image."""
        return self.annotations.max_objects

    def __len__(self) -> int:
        """The number of images."""
        return len(self.names)

    def labels_on(self, record: int) -> Int[np.ndarray, " n"]:
        """The labels of the objects on an image, without decoding it."""
        return self.annotations.targets(record, self.sizes[record].tolist())[1]

    def name(self, record: int) -> str:
        """The file name of the image, as the annotations have it."""
        return self.names[record]

    def named_as(self, classes: Classes) -> "AnnotatedImages":
        """Itself with the labels that `classes` have for the same names; as it is where a name is not among them."""
        label_of = {name: label for label, name in enumerate(classes.names) if name}
        if len(label_of) < sum(map(bool, classes.names)) or not {*self.classes.names} <= label_of.keys():
            return self
        lookup = np.array([label_of[name] for name in self.classes.names], np.int32)
        table = replace(self.annotations, labels=lookup[self.annotations.labels])
        return replace(self, classes=classes, annotations=table)

    def ground_truth(self) -> dict:
        """COCO instances of the images in use, with crowds, without what was dropped."""
        return self.annotations.instances(self.image_ids, self.names, self.sizes, self.classes)


def tidy(
    table: Annotations,
    sizes: Int[np.ndarray, "records 2"],
    names: Sequence[str],
    tally: Tally,
    most: int = LIMITS.objects,
) -> Annotations:
    """The table in the order of the records, without boxes that are no boxes; each change is counted.

    Dropped: boxes that are not finite, or cover nothing of their image. Mended: boxes that reach more than a pixel out
    of the image are clamped to it (less is rounding, and stays, so that scores are the official ones), and an area that
    is not a positive number becomes width times height. Of more than `most` objects on an image the others are crowds.
    """
    clamped = _clamp(table.boxes, sizes[table.records])
    finite = np.isfinite(table.boxes).all(1)
    covers = np.all(clamped[:, 2:] > clamped[:, :2], axis=1)
    outside = finite & covers & (np.abs(clamped - table.boxes).max(1, initial=0) > _TOLERANCE)
    shares = finite & covers & is_relative(np.where(finite[:, None], table.boxes, 0))
    unmeasured = finite & covers & ~(np.isfinite(table.areas) & (table.areas > 0))
    for kind, rows in (
        ("dropped boxes with a coordinate that is no finite number", ~finite),
        ("dropped boxes that cover nothing of their image", finite & ~covers),
        ("clamped boxes that reach out of their image", outside),
        ("kept boxes that lie in the first pixel of their image, as shares of it would", shares),
        ("measured boxes whose area is missing or not positive", unmeasured),
    ):
        if rows.any():
            first = int(np.argmax(rows))
            tally.add(kind, f"{as_written(table.boxes[first])} on {names[table.records[first]]}", int(rows.sum()))
    boxes = np.where(outside[:, None], clamped, table.boxes)
    kept = np.flatnonzero(finite & covers)
    kept = kept[np.argsort(table.records[kept], kind="stable")]
    areas = np.where(unmeasured[kept], np.prod(boxes[kept, 2:] - boxes[kept, :2], axis=1), table.areas[kept])
    entries = None if table.entries is None else table.entries[kept]
    records, crowds = table.records[kept], table.crowds[kept]
    surplus = _beyond(records, crowds, most)
    if surplus.any():
        kind = f"took for crowds the objects beyond the {most:,} on an image that --data.limits.objects allows"
        tally.add(kind, names[records[int(np.argmax(surplus))]], int(surplus.sum()))
    return Annotations(records, boxes[kept], table.labels[kept], areas, crowds | surplus, entries)


def _beyond(
    records: Int[np.ndarray, " objects"], crowds: Bool[np.ndarray, " objects"], most: int
) -> Bool[np.ndarray, " objects"]:
    """Which objects, in the order of the records, have `most` of their image before them; crowds are none."""
    before = np.cumsum(~crowds) - ~crowds
    return ~crowds & (before - before[np.searchsorted(records, records)] >= most)


class Garbled(NamedTuple):
    """What boxes are instead, in words, and the first of them as it is written."""

    text: str
    first: str


def garbled(table: Annotations, sizes: Int[np.ndarray, "records 2"]) -> Garbled | None:
    """What boxes seem to be that are no [x, y, width, height] in pixels; `table` has them as read, not yet tidied."""
    finite = np.isfinite(table.boxes).all(1)
    boxes, limits = table.boxes[finite], sizes[table.records[finite]][:, ::-1]
    if len(boxes) < _ENOUGH:
        return None
    corner, extent = boxes[:, :2], boxes[:, 2:] - boxes[:, :2]
    beyond = (boxes[:, 2:] > limits + _TOLERANCE).any(1).mean()
    ordered = ((extent > corner) & (extent <= limits + _TOLERANCE) & (corner >= 0)).all(1).mean()
    around = ((corner >= extent / 2 - _TOLERANCE) & (corner + extent / 2 <= limits + _TOLERANCE)).all(1).mean()
    relative = is_relative(boxes).mean()
    first = as_written(boxes[0])
    if relative > _NEARLY_ALL:
        return Garbled(f"boxes seem to be relative to their image: {relative:.0%} have no coordinate above 1", first)
    out = f"read as they should be, {beyond:.0%} reach out of their image"
    if ordered > _NEARLY_ALL and beyond > _MANY_BEYOND:
        return Garbled(f"boxes seem to be [x1, y1, x2, y2]: {out}", first)
    if around > _NEARLY_ALL and beyond > _SOME_BEYOND:
        return Garbled(f"boxes seem to be [centre x, centre y, width, height]: {out}", first)
    return None


def as_written(box: Float[np.ndarray, "4"]) -> str:
    """A box, xyxy, as it is written: [x, y, width, height]."""
    left, top, right, bottom = box.tolist()
    return f"[{left:g}, {top:g}, {right - left:g}, {bottom - top:g}]"


def is_relative(boxes: Float[np.ndarray, "objects 4"]) -> Bool[np.ndarray, " objects"]:
    """Which boxes, xyxy, were written with corner and extent from 0 to 1, as shares of their image are."""
    extent = boxes[:, 2:] - boxes[:, :2]
    return ((boxes[:, :2] >= 0) & (boxes[:, :2] < 1) & (extent > 0) & (extent <= 1.01)).all(1)


def no_objects(table: Annotations) -> str:
    """Why nothing in a tidy table can be trained on, and what to do, as a sentence; "" where something can."""
    if table.max_objects:
        return ""
    crowds = len(table.records)
    if not crowds:
        return "No annotation is left. Label some objects, or mend what is counted."
    return f"All {crowds} annotations have iscrowd 1, which training leaves out: write iscrowd 0 for single objects."


def _clamp(boxes: Float[np.ndarray, "n 4"], size: Int[np.ndarray, "*boxes 2"]) -> Float[np.ndarray, "n 4"]:
    limits = np.concatenate([size[..., ::-1], size[..., ::-1]], axis=-1)
    return np.clip(boxes, 0, limits)
