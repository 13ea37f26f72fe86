"""A folder of images with COCO instances files, as COCO, Roboflow and most annotation tools write it."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Int

from vitjax.data.annotations import AnnotatedImages, tidy
from vitjax.data.coco_json import (
    LEFT_OUT,
    ListedImage,
    image_ids,
    read_annotations,
    read_classes,
    read_images,
    read_instances,
)
from vitjax.data.decode import decode, is_turned, read_size
from vitjax.data.errors import DataError, Tally
from vitjax.data.folder import aliases, data_root, in_threads, read_bytes
from vitjax.data.source import Sample

JSON_PATHS = ("annotations/instances_{}.json", "annotations/instances_{}2017.json", "annotations/{}.json", "{}.json",
         "{}/_annotations.coco.json")  # fmt: skip
_FOLDERS = ("{}", "{}2017", "images/{}", "images/{}2017", "images", ".")
_PROBES = 32  # images looked for in every folder that might be the right one


@dataclass(frozen=True)
class CocoFolder:
    """Images with boxes from a folder in COCO format; where its files are is found out."""

    task: ClassVar[str] = "detection"

    root: str = ""
    """The folder that holds images and annotations."""
    train_split: str = "train"
    """Split to train on."""
    split: str = "val"
    """Split to evaluate on."""
    labels: Literal["contiguous", "category_id"] = "contiguous"
    """0, 1, 2, ... or the ids in the json, as DETR has it."""
    check_images: bool = True
    """Read the header of every image on opening, not just look for the file."""

    def open(self, split: str) -> "CocoImages":
        """The images and annotations of a split; what is skipped or mended is in its `problems`.

        Raises:
            DataError: files are missing or are not what they should be, no image can be used, or the split is the
                one to train on and no annotation can be used.
        """
        root, tally = data_root(self.root, "Name a folder in COCO format, --data.root FOLDER."), Tally()
        path = find_json(root, split)
        document = read_instances(path)
        classes, label_of = read_classes(document["categories"], self.labels, path, tally)
        listed = read_images(document["images"], tally)
        if not listed:
            raise DataError(_sentence(f"{path} lists no image that can be used", tally))
        folder = find_folder(root, split, path, listed)
        images, sizes, turned = look(folder, listed, self.check_images, tally)
        if not images:
            raise DataError(_sentence(f"none of the {len(listed)} images of {path} in {folder} can be used", tally))
        record_of = {image.key: LEFT_OUT for image in listed} | {image.key: i for i, image in enumerate(images)}
        table = read_annotations(document["annotations"], record_of, label_of, tally)
        names = tuple(image.file_name for image in images)
        table = tidy(table, sizes, names, tally)
        if split == self.train_split and not table.max_objects:
            raise DataError(_sentence(f"{path} has no annotation that can be trained on", tally))
        if not len(table.records):
            tally.add("images without one annotation among them, scores will be NaN", names[0], len(images))
        ids = image_ids(images, tally)
        return CocoImages(classes, sizes, ids, names, table, tally.lines(path.name), folder, turned)


@dataclass(frozen=True, eq=False)
class CocoImages(AnnotatedImages):
    """One split of a `CocoFolder`, opened; a Source. Images in `turned` are turned upright as EXIF says."""

    folder: Path
    turned: frozenset[int]

    def __getitem__(self, record: int) -> Sample:
        """The image and its objects, boxes clamped to the image, crowds left out.

        Raises:
            DataError: the file cannot be read, or is not of the size that it was thought to have.
        """
        path = self.folder / self.names[record]
        image = decode(read_bytes(path), str(path), orient=record in self.turned)
        size = tuple(self.sizes[record].tolist())
        if image.shape[:2] != size:
            raise DataError(f"{path} is {_shape(image.shape)}, not {_shape(size)}. Open it with check_images.")
        boxes, labels = self.annotations.targets(record, size)
        return Sample(image, boxes, labels)


def find_json(root: Path, split: str) -> Path:
    """The instances file of a split.

    Raises:
        DataError: there is none at any of the usual places.
    """
    names = aliases(split)
    for relative in (pattern.format(name) for name in names for pattern in JSON_PATHS):
        if (root / relative).is_file():
            return root / relative
    tried = ", ".join(pattern.format(split) for pattern in JSON_PATHS)
    also = f" (and the same with {' and '.join(names[1:])})" if names[1:] else ""
    found = sorted(str(path.relative_to(root)) for pattern in ("*.json", "*/*.json") for path in root.glob(pattern))
    there = f"The json files in it are {', '.join(found[:8])}" if found else "There are no json files in it"
    raise DataError(
        f"{root} has no annotations of the split {split!r}: looked for {tried}{also}. {there}. "
        "Name a split that is there (--data.split, --data.train-split), or rename the file."
    )


def find_folder(root: Path, split: str, json: Path, images: Sequence[ListedImage]) -> Path:
    """The folder of the images: the first usual one with most of those looked for, else any other in the root.

    Raises:
        DataError: they are nowhere.
    """
    usual = [root / pattern.format(name) for name in aliases(split) for pattern in _FOLDERS]
    probes = images[:: max(1, len(images) // _PROBES)]
    for folders in (dict.fromkeys([*usual, json.parent]), sorted(root.iterdir())):
        hits = {folder: sum(os.path.isfile(folder / image.file_name) for image in probes) for folder in folders}
        best = max(hits.values())
        if best:
            return next(folder for folder, count in hits.items() if 2 * count >= best)
    raise DataError(
        f"the images of {json} are not found: looked for {probes[0].file_name} in {root} and in "
        f"{', '.join(pattern.format(split) + '/' for pattern in _FOLDERS[:-1])} and every other folder there. "
        "Put them there, or correct file_name in the json."
    )


def look(
    folder: Path, listed: Sequence[ListedImage], check: bool, tally: Tally
) -> tuple[list[ListedImage], Int[np.ndarray, "records 2"], frozenset[int]]:
    """The images that can be used, their sizes, and which of them are to be turned upright."""
    present = _present(folder, listed, tally)
    found = in_threads(lambda image: _header(folder, image, check), present)
    kept: list[ListedImage] = []
    sizes, turned = [], set()
    for image, header in zip(present, found, strict=True):
        if isinstance(header, str):
            tally.add("left out images that cannot be read", header)
            continue
        size, upright = header
        if upright:
            turned.add(len(kept))
            tally.add("turned images upright by EXIF, since the json has their sizes so", image.file_name)
        elif image.size and image.size != size:
            example = f"{image.file_name} is {_shape(size)}, not {_shape(image.size)}"
            tally.add("corrected image sizes in the json to those of the files", example)
        kept.append(image)
        sizes.append(size)
    return kept, np.array(sizes, np.int32).reshape(-1, 2), frozenset(turned)


def _present(folder: Path, listed: Sequence[ListedImage], tally: Tally) -> list[ListedImage]:
    """The images whose file is there; folders are listed once, which is faster than to ask for every file."""
    contents: dict[str, set[str]] = {}
    present = []
    for image in listed:
        parent, name = os.path.split(folder / image.file_name)
        if parent not in contents:
            contents[parent] = set(os.listdir(parent)) if os.path.isdir(parent) else set()
        if name in contents[parent]:
            present.append(image)
        else:
            tally.add("left out images whose file is missing", os.path.join(parent, name))
    return present


def _header(folder: Path, image: ListedImage, check: bool) -> tuple[tuple[int, int], bool] | str:
    """An image's (height, width) and whether it is to be turned for that; or why it cannot be read."""
    if image.size and not check:
        return image.size, False
    path = folder / image.file_name
    try:
        with open(path, "rb") as file:
            size = read_size(file, str(path))
            upright = (size[1], size[0])
            if image.size == upright != size and is_turned(file, str(path)):
                return upright, True
            return size, False
    except DataError as error:
        return str(error)
    except OSError as error:
        return f"{path}: {error.strerror}"


def _shape(size: Sequence[int]) -> str:
    return f"{size[1]}x{size[0]} (width x height)"


def _sentence(fault: str, tally: Tally) -> str:
    return " ".join([f"{fault}.", *(f"{line}." for line in tally.lines("Counted"))])
