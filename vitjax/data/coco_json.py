"""What stands in a COCO instances file, entry by entry; an entry that makes no sense is skipped and counted."""

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from vitjax.data.annotations import Annotations
from vitjax.data.errors import DataError, Tally
from vitjax.data.folder import read_bytes
from vitjax.data.source import Classes

Key = int | str | None  # an id as found; None is what cannot be one
Labels = Literal["contiguous", "category_id"]
LEFT_OUT = -1  # in place of a record: the image is listed, but not used

_MAX_CATEGORY_ID = 9_999
_MOST_DIGITS = 100  # of an id that is written as a text; Python does not make numbers of thousands
_LONGEST = 2**31  # pixels of a side; what is said to be longer is taken from the file
_FORMS: tuple[tuple[str, set[str], str], ...] = (  # what they are, keys that they have, and one that they lack
    ("COCO results, which a model has predicted and nobody has labelled", {"image_id", "category_id", "score"}, ""),
    ("a labelme file, of one image", {"shapes", "imagePath"}, ""),
    ("a VIA project", {"_via_img_metadata"}, ""),
    ("an export of Label Studio in its own JSON", {"data", "annotations"}, "images"),
    ("a list of images without their annotations, as COCO has of its test images", {"images"}, "annotations"),
    ("captions, which have no boxes", {"images", "annotations"}, "categories"),
)


@dataclass(frozen=True)
class ListedImage:
    """An image as the json has it; `size` is (height, width), or None where the json does not say.

    `others` are the ids under which the same file is listed again.
    """

    key: Key
    file_name: str
    size: tuple[int, int] | None
    others: tuple[Key, ...] = ()


def read_instances(path: Path) -> dict[str, Any]:
    """The document with the lists `images`, `annotations` and `categories` of a COCO instances file.

    Raises:
        DataError: the file cannot be read, is not JSON, or lacks one of the lists.
    """
    wish = "Export the data again as COCO instances (object detection)"
    content = read_bytes(path)
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:  # not JSON, or not text
        raise DataError(f"{path} is not valid JSON: {error}; it begins with {content[:20]!r}. {wish}.") from error
    if not isinstance(document, dict):
        raise DataError(
            f"{path} holds a JSON {type(document).__name__}, not an object with images. {_form(document)}{wish}."
        )
    for key in ("images", "annotations", "categories"):
        if not isinstance(document.get(key), list):
            found = (
                f"{key!r} is a {type(document[key]).__name__}" if key in document else f"it has {sorted(document)[:20]}"
            )
            raise DataError(f"{path} has no list {key!r}: {found}. {_form(document)}{wish}.")
    return document


def _form(document: Any) -> str:
    """What other well-known file a document is, as a sentence; "" where it is none."""
    first = document[0] if isinstance(document, list) and document else document
    keys = set(first) if isinstance(first, dict) else set()
    form = next((form for form, has, lacks in _FORMS if has <= keys and lacks not in keys), "")
    return f"It looks like {form}. " if form else ""


def read_classes(entries: list, labels: Labels, path: Path, tally: Tally) -> tuple[Classes, dict[Key, int]]:
    """What the labels mean, and the label of every category id; contiguous labels are in the order of the ids.

    Raises:
        DataError: there are no categories, or their ids cannot be labels though `labels` says so.
    """
    names: dict[Key, str] = {}
    for entry in entries:
        key = _key(entry.get("id")) if isinstance(entry, dict) else None
        if key is None:
            tally.add("skipped categories without an id", repr(entry))
        elif key in names:
            tally.add("skipped categories whose id is taken", repr(entry))
        else:
            names[key] = str(entry.get("name") or f"category {key}").encode(errors="backslashreplace").decode()
    if not names:
        counted = " ".join([f"{path} lists no categories.", *(f"{line}." for line in tally.lines("Counted"))])
        raise DataError(f"{counted} Add those that the annotations refer to.")
    ids = _numbers(names, "category", tally)
    by_id = sorted((number, names[key]) for key, number in ids.items())
    if labels == "contiguous":
        classes = Classes(tuple(name for _, name in by_id), tuple(number for number, _ in by_id))
    else:
        if by_id[0][0] < 0 or by_id[-1][0] > _MAX_CATEGORY_ID:
            span = f"{by_id[0][0]} to {by_id[-1][0]}"
            raise DataError(f'{path} has category ids {span}, not in 0 to {_MAX_CATEGORY_ID}: use labels="contiguous".')
        slots = range(by_id[-1][0] + 1)
        classes = Classes(tuple(dict(by_id).get(slot, "") for slot in slots), tuple(slots))
    label_of = {category_id: label for label, category_id in enumerate(classes.category_ids)}
    return classes, {key: label_of[number] for key, number in ids.items()}


def read_images(entries: list, tally: Tally) -> list[ListedImage]:
    """The images, each id once; files that share an id are left out, as nobody knows whose boxes are whose."""
    images: dict[Key, ListedImage] = {}
    shared: dict[Key, set[str]] = {}
    for entry in entries:
        image = _image(entry)
        if image is None:
            tally.add("skipped images without an id or a file_name", repr(entry)[:80])
        elif image.key not in images:
            images[image.key] = image
        elif image.file_name == images[image.key].file_name:
            tally.add("skipped images that are listed twice", image.file_name)
        else:
            shared.setdefault(image.key, {images[image.key].file_name}).add(image.file_name)
    for key, files in shared.items():
        tally.add("left out images that share their id with another file", f"id {key}: {sorted(files)[:2]}", len(files))
        del images[key]
    return list(images.values())


def records_of(listed: Iterable[ListedImage], kept: Sequence[ListedImage]) -> dict[Key, int]:
    """The record of every id: its place among the images that are kept, or LEFT_OUT."""
    left = {image.key: LEFT_OUT for image in listed}
    return left | {key: record for record, image in enumerate(kept) for key in (image.key, *image.others)}


def image_ids(images: Iterable[ListedImage], tally: Tally) -> tuple[int, ...]:
    """The ids of the images as whole numbers."""
    return tuple(_numbers((image.key for image in images), "image", tally).values())


def read_annotations(
    entries: list, record_of: Mapping[Key, int], label_of: Mapping[Key, int], tally: Tally
) -> Annotations:
    """The annotations of known images and categories, their boxes not yet checked."""
    rows, seen, joined = [], set[Key](), _Joined(record_of)
    for place, entry in enumerate(entries):
        try:
            image, category = _key(entry["image_id"]), _key(entry["category_id"])
            (x, y, width, height), outlined = _box(entry)
        except (TypeError, KeyError, ValueError, OverflowError, AttributeError):
            tally.add("skipped annotations without image_id, category_id or four numbers as bbox", repr(entry)[:120])
            continue
        record, label = record_of.get(image), label_of.get(category)
        name = entry.get("id")
        if record is None:
            tally.add("skipped annotations of an unknown image", f"annotation {name} of image_id {image}")
        elif record == LEFT_OUT:
            tally.add("skipped annotations of images that were left out", f"annotation {name} of image_id {image}")
        elif label is None:
            tally.add("skipped annotations of an unknown category", f"annotation {name} of category_id {category}")
        elif joined.has(record, image, (label, x, y, width, height)):
            tally.add("skipped annotations that joined images have twice", f"annotation {name} of image_id {image}")
        else:
            key = _key(name)
            if not key or key in seen:
                tally.add("numbered anew annotations whose id is missing, 0 or taken", f"id {name} of image_id {image}")
            seen.add(key)
            if outlined:
                tally.add("made boxes from segmentation", f"annotation {name} of image_id {image}")
            crowd = _key(entry.get("iscrowd")) == 1
            rows.append((record, x, y, x + width, y + height, label, _number(entry.get("area")), crowd, place))
    table = np.array(rows, np.float64).reshape(-1, 9)
    records, labels = table[:, 0].astype(np.int32), table[:, 5].astype(np.int32)
    crowds, places = table[:, 7].astype(bool), table[:, 8].astype(np.int32)
    return Annotations(records, table[:, 1:5], labels, table[:, 6], crowds, places)


class _Joined:
    """What is annotated on files that are listed under several ids."""

    def __init__(self, record_of: Mapping[Key, int]) -> None:
        self._files = {record for record, ids in Counter(record_of.values()).items() if ids > 1 and record != LEFT_OUT}
        self._owners: dict[tuple, Key] = {}

    def has(self, record: int, image: Key, annotation: tuple) -> bool:
        """Whether the same object came under another id of the file."""
        return record in self._files and self._owners.setdefault((record, *annotation), image) != image


def _box(entry: Any) -> tuple[tuple[float, ...], bool]:
    """x, y, width and height of an annotation; where it has none, or four zeros, those of its segmentation, and True.

    Raises:
        ValueError: it has neither.
    """
    try:
        box = tuple(map(float, entry["bbox"]))
    except (TypeError, KeyError, ValueError, OverflowError):
        box = ()
    if len(box) == 4 and math.isfinite(sum(box)) and any(box):
        return box, False
    from vitjax.data.outlines import box_of  # which few data need

    outline = box_of(entry["segmentation"]) if entry.get("segmentation") else None
    if outline is None and len(box) != 4:
        raise ValueError("neither a box nor an outline")
    return outline or box, outline is not None


def _image(entry: Any) -> ListedImage | None:
    if not isinstance(entry, dict):
        return None
    key, file_name = _key(entry.get("id")), entry.get("file_name")
    if key is None or not isinstance(file_name, str) or not file_name:
        return None
    height, width = _number(entry.get("height")), _number(entry.get("width"))
    known = 1 <= height < _LONGEST and 1 <= width < _LONGEST
    return ListedImage(key, file_name, (int(height), int(width)) if known else None)


def _key(value: Any) -> Key:
    """An id in the form in which it can be looked up: 7, 7.0 and "7" are the same."""
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    if isinstance(value, str) and value:
        whole = len(value) <= _MOST_DIGITS and value.isdecimal() and str(int(value)) == value
        return int(value) if whole else value
    return None


def _number(value: Any) -> float:
    """A finite number, or NaN."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan
    return number if math.isfinite(number) else math.nan


def _numbers(keys: Iterable[Key], what: str, tally: Tally) -> dict[Key, int]:
    """A whole number for every id: itself, or for words one that is free."""
    keys = list(keys)
    free = 1 + max((key for key in keys if isinstance(key, int)), default=0)
    numbers: dict[Key, int] = {}
    for key in keys:
        if isinstance(key, int):
            numbers[key] = key
        else:
            tally.add(f"numbered {what} ids that are words", f"{key!r} became {free}")
            numbers[key], free = free, free + 1
    return numbers
