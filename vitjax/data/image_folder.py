"""A folder of images that lie in a folder for each class, as photos are sorted and as ImageNet is unpacked."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
from jaxtyping import Int

from vitjax.data.decode import decode, read_size
from vitjax.data.errors import DataError, Tally
from vitjax.data.folder import VALIDATION, aliases, data_root, in_threads, open_file, read_bytes
from vitjax.data.image_paths import OUTSIDE, Finder
from vitjax.data.memory import SUFFIXES
from vitjax.data.source import LIMITS, Classes, Limits, Sample, labelled

_USUAL = ("train", "training", *VALIDATION, "test", "testing")  # what folders of splits are called
_CLUTTER = {"thumbs.db", "desktop.ini", "__macosx", "@eadir"}  # what file managers leave behind besides hidden files
_AT_ONCE = 32  # headers that a thread reads in one go; a task for each of millions would fill the memory
_NO_IMAGES = "ignored files that are no images by their names"
_WISH = "Name a folder with a folder of images for each class, --data.root FOLDER."
_LAYOUT = "Lay the images out as <split>/<class name>/<image>, or as <class name>/<image> to have them divided"


@dataclass(frozen=True)
class ImageFolder:
    """Images in folders that are called as their classes, and those in folders that are called as the splits.

    Where there are no folders of splits, the images are divided: of each class, in the order of their names, every
    `holdout`-th is for `split` and the others are for `train_split`. The classes are those of all splits in the order
    of their names; what the split to train on has no folder of comes last.
    """

    task: ClassVar[str] = "classification"

    root: str = ""
    """The folder that holds <split>/<class name>/<image>, or <class name>/<image>."""
    train_split: str = "train"
    """Split to train on."""
    split: str = "val"
    """Split to evaluate on."""
    holdout: int = 5
    """Without folders of splits, one image in so many is held out for `split`."""
    check_images: bool = True
    """Read the header of every image on opening, not just its name."""
    limits: Limits = LIMITS
    """What images may ask of this machine."""

    def open(self, split: str) -> "FolderImages":
        """The images of a split, and what is left out in its `problems`.

        Raises:
            DataError: folders are missing or are not what they should be, no image can be used, or the split is the
                one to train on and has fewer than two classes or a class without an image.
        """
        root, tally, training = data_root(self.root, _WISH), Tally(), split == self.train_split
        splits = self._splits(root, split)
        folder = root / _chosen(root, splits, split) if splits else root
        own = _class_folders(folder, tally)
        if training and len(own) < 2:
            raise DataError(f"{folder} has one class only, {own[0]!r}, so there is nothing to tell apart. {_LAYOUT}.")
        images = _list_images(folder, own, tally, None if self.limits.outside else root)
        notes: tuple[str, ...] = ()
        if not splits:
            images, notes = self._divide(root, images, split)
        if self.check_images:
            images = _readable(folder, images, tally, self.limits.pixels)
        _require_images(folder, images, training, tally)
        names = _class_names(root, splits) if splits else tuple(own)
        _count("classes without an image here", [name for name in names if not images.get(name)], tally)
        files = tuple(image for name in names for image in images.get(name, ()))
        counts = [len(images.get(name, ())) for name in names]
        labels = np.repeat(np.arange(len(names), dtype=np.int32), counts)
        problems = (*notes, *tally.lines(str(folder)))
        return FolderImages(
            folder, Classes(names, tuple(range(len(names)))), files, labels, problems, pixels=self.limits.pixels
        )

    def _splits(self, root: Path, split: str) -> list[str]:
        """The folders of splits, first the one to train on; none where the folders are those of classes.

        A class may be called as a split is (boat, plane, train): then it holds images itself, and others are beside it.
        """
        folders, usual = _look(root).folders, {self.train_split, self.split, split, *_USUAL}
        found = [name for name in folders if name in usual or name.lower() in usual]
        if len(found) == 1 < len(folders) and not _look(root / found[0]).folders:
            return []
        return sorted(found, key=lambda name: name not in aliases(self.train_split))

    def _divide(
        self, root: Path, images: Mapping[str, list[str]], split: str
    ) -> tuple[dict[str, list[str]], tuple[str, ...]]:
        """The part of a split that has no folder of its own, and a line that says so."""
        if self.holdout < 2:
            raise DataError(f"ImageFolder.holdout is at least 2, for every second image; got {self.holdout}.")
        if split != self.train_split and split not in aliases(self.split):
            parts = f"{self.train_split!r} and {self.split!r}"
            raise DataError(f"{root} has no folders of splits and is divided into {parts}; got {split!r}. Name a part.")
        held = split != self.train_split
        part = {
            name: [image for place, image in enumerate(own, 1) if (place % self.holdout == 0) == held]
            for name, own in images.items()
        }
        kept, whole = (sum(map(len, each.values())) for each in (part, images))
        classes = f"{len(images)} classes: {', '.join([*list(images)[:5], *['...'] * (len(images) > 5)])}"
        share = f"one image in {self.holdout} of each class is held out"
        return part, (f"{root}: no folders of splits, so {share}: {split} has {kept} of {whole} ({classes})",)


@dataclass(frozen=True, eq=False)
class FolderImages:
    """One split of an `ImageFolder`, opened; a Source. The names are paths in `folder`, with forward slashes."""

    folder: Path
    classes: Classes
    names: tuple[str, ...]
    labels: Int[np.ndarray, " records"]
    problems: tuple[str, ...]
    max_objects: int = 1  # an image is labelled as a whole
    pixels: int = LIMITS.pixels

    @property
    def image_ids(self) -> tuple[str, ...]:
        """The names of the images."""
        return self.names

    def __len__(self) -> int:
        """The number of images."""
        return len(self.names)

    def __getitem__(self, record: int) -> Sample:
        """The image, turned upright as EXIF says, and its label.

        Raises:
            DataError: the file cannot be read.
        """
        path = self.folder / self.names[record]
        return labelled(decode(read_bytes(path), str(path), orient=True, limit=self.pixels), int(self.labels[record]))

    def labels_on(self, record: int) -> Int[np.ndarray, " 1"]:
        """The label of an image, without decoding it."""
        return self.labels[record : record + 1]

    def name(self, record: int) -> str:
        """The path of the image in the folder."""
        return self.names[record]


class _Contents(NamedTuple):
    folders: list[str]
    files: list[str]


def _chosen(root: Path, splits: Sequence[str], split: str) -> str:
    names = aliases(split)
    for name in names:
        if name in splits:
            return name
    also = f" (nor {' nor '.join(names[1:])})" if names[1:] else ""
    raise DataError(
        f"{root} has no folder of the split {split!r}{also}: those in it are {', '.join(_look(root).folders)}. "
        "Name a split that is there (--data.split, --data.train-split)."
    )


def _entries(folder: str) -> list[os.DirEntry[str]]:
    """What is in a folder, without what is hidden and without clutter."""
    try:
        with os.scandir(folder) as entries:
            return [each for each in entries if each.name[0] != "." and each.name.lower() not in _CLUTTER]
    except OSError as error:
        raise DataError(f"{folder} cannot be listed: {error.strerror}.") from error


def _look(folder: Path) -> _Contents:
    """The names of the folders, also those that are links, and of the files in a folder, in order."""
    contents = _Contents([], [])
    for entry in sorted(_entries(str(folder)), key=lambda each: each.name):
        is_folder = entry.is_dir(follow_symlinks=False) or (entry.is_symlink() and os.path.isdir(entry.path))
        (contents.folders if is_folder else contents.files).append(entry.name)
    return contents


def _is_image(name: str) -> bool:
    return name.lower().endswith(SUFFIXES)


def _class_folders(folder: Path, tally: Tally) -> list[str]:
    folders, files = _look(folder)
    images = [name for name in files if _is_image(name)]
    if not folders:
        there = (
            f"images lie directly in it: {len(images)} (first: {images[0]})" if images else "there are no images in it"
        )
        raise DataError(f"{folder} has no folders of classes, and {there}. {_LAYOUT}.")
    _count(_NO_IMAGES, [name for name in files if not _is_image(name)], tally)
    _count("ignored images outside the folders of classes", images, tally)
    return folders


def _class_names(root: Path, splits: Sequence[str]) -> tuple[str, ...]:
    first, *others = (_look(root / split).folders for split in splits)
    return tuple(dict.fromkeys([*first, *sorted(name for names in others for name in names)]))


def _count(kind: str, names: Sequence[str], tally: Tally) -> None:
    if names:
        tally.add(kind, names[0], len(names))


def _list_images(folder: Path, classes: Sequence[str], tally: Tally, root: Path | None) -> dict[str, list[str]]:
    """The images of each class in the order of their names, which are paths in the folder.

    With a `root` links to files outside of it and of the folder of the class are left out.
    """
    found = in_threads(lambda name: _walk(str(folder), name), classes)
    for name, contents in zip(classes, found, strict=True):
        _count(_NO_IMAGES, [name for name in contents if not _is_image(name)], tally)
        if root is not None:
            finder = Finder(root, also=(folder / name,))
            out = {image for image in contents if _is_image(image) and not finder.stays(str(folder), image)}
            _count(OUTSIDE, sorted(out), tally)
            contents[:] = [image for image in contents if image not in out]
    return {name: list(filter(_is_image, contents)) for name, contents in zip(classes, found, strict=True)}


def _walk(root: str, name: str) -> list[str]:
    """All files in a folder of the root and in the folders in it; links to folders in there are not followed."""
    folders, files = [name], list[str]()
    while folders:
        folder = folders.pop()
        for entry in _entries(f"{root}/{folder}"):
            is_folder = entry.is_dir(follow_symlinks=False)
            (folders if is_folder else files).append(f"{folder}/{entry.name}")
    return sorted(files)


def _readable(folder: Path, images: Mapping[str, list[str]], tally: Tally, limit: int) -> dict[str, list[str]]:
    """The images whose header can be read."""
    names = [name for own in images.values() for name in own]
    parts = [names[start : start + _AT_ONCE] for start in range(0, len(names), _AT_ONCE)]
    found = in_threads(lambda part: {name: fault for name in part if (fault := _fault(folder / name, limit))}, parts)
    faults = {name: fault for part in found for name, fault in part.items()}
    for fault in faults.values():
        tally.add("left out images that cannot be read", fault)
    return {name: [image for image in own if image not in faults] for name, own in images.items()}


def _fault(path: Path, limit: int) -> str | None:
    """Why the header of an image cannot be read; None where it can."""
    try:
        with open_file(path) as file:
            read_size(file, str(path), limit)
    except DataError as error:
        return str(error)
    except OSError as error:
        return f"{path}: {error.strerror}"
    return None


def _require_images(folder: Path, images: Mapping[str, list[str]], training: bool, tally: Tally) -> None:
    empty = [repr(name) for name, own in images.items() if not own]
    if len(empty) < len(images) and not (training and empty):
        return
    listed = ", ".join([*empty[:5], *["..."] * (len(empty) > 5)])
    fault = f"{folder} has no image that can be used in {len(empty)} of its {len(images)} classes: {listed}."
    lines = [f"{line}." for line in tally.lines("Counted")]
    raise DataError(" ".join([fault, "Put images into their folders, or remove the folders.", *lines]))
