"""Images with boxes that lie in a folder, whatever layout it has: opened from what is listed of them."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from vitjax.data.annotations import BOX_WISH, AnnotatedImages, garbled, no_objects, tidy
from vitjax.data.coco_json import (
    Labels,
    ListedImage,
    image_ids,
    read_annotations,
    read_classes,
    read_images,
    records_of,
)
from vitjax.data.decode import decode, is_turned, read_size
from vitjax.data.errors import DataError, Tally
from vitjax.data.folder import in_threads, open_file, read_bytes
from vitjax.data.source import LIMITS, Limits, Sample


@dataclass(frozen=True, eq=False)
class Listing:
    """What is written of a split, in COCO's form and not yet checked; `path` is where it is written.

    The file names are those in `folder`, or in one that is to be found where it is None. Boxes are of images as they
    are stored, or with `upright` as viewers show them. Images may lie in the folders `also`, too.
    """

    root: Path
    split: str
    path: Path
    document: dict[str, Any]
    folder: Path | None = None
    upright: bool = False
    also: tuple[Path, ...] = ()
    limits: Limits = LIMITS


@dataclass(frozen=True, eq=False)
class AnnotatedFiles(AnnotatedImages):
    """One split of a folder of images, opened; a DetectionSource. Images in `turned` are turned as EXIF says."""

    folder: Path
    turned: frozenset[int]
    limits: Limits = field(default=LIMITS, kw_only=True)

    def __getitem__(self, record: int) -> Sample:
        """The image and its objects, boxes clamped to the image, crowds left out.

        Raises:
            DataError: the file cannot be read, or is not of the size that it was thought to have.
        """
        path = self.folder / self.names[record]
        image = decode(read_bytes(path), str(path), orient=record in self.turned, limit=self.limits.pixels)
        size = tuple(self.sizes[record].tolist())
        if image.shape[:2] != size:
            raise DataError(f"{path} is {_shape(image.shape)}, not {_shape(size)}. Open it with check_images.")
        boxes, labels = self.annotations.targets(record, size)
        return Sample(image, boxes, labels)


def open_listing(
    listing: Listing,
    tally: Tally,
    *,
    training: bool,
    labels: Labels = "contiguous",
    check: bool = False,
    entries: bool = False,
) -> AnnotatedFiles:
    """The images that are there with their annotations; with `check` the header of every image is read.

    With `entries` the annotations keep their places in the document.

    Raises:
        DataError: no image can be used, boxes are in another format, or nothing that is there can be trained on.
    """
    path = listing.path
    classes, label_of = read_classes(listing.document["categories"], labels, path, tally)
    listed = read_images(listing.document["images"], tally)
    if not listed:
        raise DataError(_sentence(f"{path} lists no image that can be used", tally))
    folder = folder_of(listing, listed, tally)
    images, sizes, turned = look(folder, present(listing, folder, listed, tally), check, tally, listing.limits.pixels)
    if not images:
        raise DataError(_sentence(f"none of the {len(listed)} images of {path} in {folder} can be used", tally))
    table = read_annotations(listing.document["annotations"], records_of(listed, images), label_of, tally)
    names = tuple(image.file_name for image in images)
    if strange := garbled(table, sizes):
        raise DataError(f"{path}: {strange.text} (first: {strange.first}). {BOX_WISH}")
    table = tidy(table, sizes, names, tally, listing.limits.objects)
    if fault := no_objects(table):
        if training:
            raise DataError(f"{_sentence(f'{path} has no annotation that can be trained on', tally)} {fault}")
        kind = "without one annotation among them" if not len(table.records) else "with nothing but crowds on them"
        tally.add(f"images {kind}, scores will be NaN", names[0], len(images))
    ids = image_ids(images, tally)
    upright = frozenset(range(len(images))) if listing.upright else turned
    table = table if entries else replace(table, entries=None)
    told = tally.lines(path.name)
    return AnnotatedFiles(classes, sizes, ids, names, table, told, folder, upright, limits=listing.limits)


def folder_of(listing: Listing, listed: Sequence[ListedImage], tally: Tally) -> Path:
    """The folder of the images.

    Raises:
        DataError: they are nowhere.
    """
    if listing.folder is not None:
        return listing.folder
    from vitjax.data.image_paths import find_folder  # which data that are drawn do not need

    names = [image.file_name for image in listed]
    return find_folder(listing.root, listing.split, listing.path, names, tally, outside=listing.limits.outside)


def present(listing: Listing, folder: Path, listed: Sequence[ListedImage], tally: Tally) -> list[ListedImage]:
    """The images whose file is there, under its path in the folder; those of one file are joined."""
    from vitjax.data.image_paths import Finder, found_images

    images: dict[str, ListedImage] = {}
    finder = Finder(listing.root, listing.limits.outside, listing.also)
    for number, path in found_images(finder, folder, [image.file_name for image in listed], tally):
        image = listed[number] if listed[number].file_name == path else replace(listed[number], file_name=path)
        if (first := images.setdefault(path, image)) is not image:
            images[path] = replace(first, others=(*first.others, image.key))
            tally.add("joined images that are listed under several ids", path)
    return list(images.values())


def look(
    folder: Path, images: Sequence[ListedImage], check: bool, tally: Tally, limit: int = LIMITS.pixels
) -> tuple[list[ListedImage], Int[np.ndarray, "records 2"], frozenset[int]]:
    """The images that can be used, their sizes, and which of them are to be turned upright."""
    found = in_threads(lambda image: _header(folder, image, check, limit), images)
    kept: list[ListedImage] = []
    sizes, turned = [], set()
    for image, header in zip(images, found, strict=True):
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


def _header(folder: Path, image: ListedImage, check: bool, limit: int) -> tuple[tuple[int, int], bool] | str:
    """An image's (height, width) and whether it is to be turned for that; or why it cannot be read."""
    if image.size and not check:
        return image.size, False
    path = folder / image.file_name
    try:
        with open_file(path) as file:
            size = read_size(file, str(path), limit)
            upright = (size[1], size[0])
            if image.size == upright != size and is_turned(file, str(path), limit):
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
