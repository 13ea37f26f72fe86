"""A folder of images with a label map for each: a PNG of the same name whose pixels are the labels."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
from jaxtyping import Int, UInt8

from vitjax.data.decode import decode, opened, read_size
from vitjax.data.errors import DataError, Tally
from vitjax.data.folder import in_threads, open_file, read_bytes
from vitjax.data.image_paths import OUTSIDE, Finder
from vitjax.data.memory import SUFFIXES
from vitjax.data.source import LIMITS, NO_LABEL, Classes, Limits, Sample, mapped
from vitjax.errors import VitjaxError

CLASSES_FILE = "classes.txt"
LAYOUT = f"Lay the data out as <split>/images/a.jpg and <split>/labels/a.png, and name the classes in {CLASSES_FILE}"

_WISH = f"{LAYOUT}."
_PNG = b"\x89PNG\r\n\x1a\n"
_START = 26  # the bytes of a PNG that end with bit depth and colour type
_GREY, _PALETTE = 0, 3
_COLOURS = {_GREY: "grey", 2: "RGB", _PALETTE: "palette", 4: "grey and alpha", 6: "RGB and alpha"}


@dataclass(frozen=True)
class LabelMapFolder:
    """Images in `<split>/images`, and for each a PNG of its stem in `<split>/labels`, 8-bit grey or with a palette.

    A pixel of it is the label, 255 where there is none. `classes.txt` has the name of label 0 in its first line, that
    of label 1 in its second, and so on; a class that is called background is left uncoloured in pictures.
    """

    task: ClassVar[str] = "segmentation"

    root: str = ""
    """The folder that holds classes.txt, and a folder for each split with images and labels in it."""
    train_split: str = "train"
    """Split to train on."""
    split: str = "val"
    """Split to evaluate on."""
    limits: Limits = LIMITS
    """What images may ask of this machine."""

    def open(self, split: str) -> "MappedImages":
        """The images of a split that have a label map of their size; what is left out is in its `problems`.

        Raises:
            DataError: a folder or classes.txt is missing or not what it should be, or no image can be used.
            VitjaxError: the header of a label map tells of pixels that are no labels.
        """
        if not self.root:
            raise DataError(f"no data folder is given; name one with --data.root FOLDER. {LAYOUT}.")
        root = Path(self.root).expanduser()
        classes, folder, tally = _read_classes(root / CLASSES_FILE), root / split, Tally()
        for path in (folder / "images", folder / "labels"):
            if not path.is_dir():
                raise DataError(f"there is no folder {path}. {LAYOUT}.")
        paths = sorted(path for path in (folder / "images").iterdir() if path.suffix.lower() in SUFFIXES)
        names, sizes = list[str](), list[tuple[int, int]]()
        finder = Finder(root, self.limits.outside)
        for path, looked in zip(
            paths, in_threads(lambda one: _look(one, finder, self.limits.pixels), paths), strict=True
        ):
            if looked.size:
                names.append(path.name)
                sizes.append(looked.size)
            else:
                tally.add(looked.fault, looked.example)
        problems = tally.lines(str(folder))
        if not names:
            raise DataError(" ".join([f"{folder} has no image with a label map. {LAYOUT}.", *problems]))
        return MappedImages(
            folder, classes, tuple(names), np.array(sizes, np.int32), problems, pixels=self.limits.pixels
        )


@dataclass(frozen=True, eq=False)
class MappedImages:
    """One split of a `LabelMapFolder`, opened; a LabelMapSource."""

    folder: Path
    classes: Classes
    names: tuple[str, ...]
    sizes: Int[np.ndarray, "records 2"]
    problems: tuple[str, ...] = ()
    max_objects: int = 0
    pixels: int = LIMITS.pixels

    @property
    def image_ids(self) -> tuple[str, ...]:
        """The names of the images."""
        return self.names

    def __len__(self) -> int:
        """The number of images."""
        return len(self.names)

    def __getitem__(self, record: int) -> Sample:
        """The image as it is stored, and its label map.

        Raises:
            DataError: one of the files cannot be read, or they are not of one size.
            VitjaxError: as `label_map`.
        """
        path = self.folder / "images" / self.names[record]
        image, labels = decode(read_bytes(path, _WISH), str(path), limit=self.pixels), self.label_map(record)
        if image.shape[:2] != labels.shape:
            raise DataError(f"{path} and its label map differ in size: {image.shape[:2]} and {labels.shape}.")
        return mapped(image, labels)

    def label_map(self, record: int) -> UInt8[np.ndarray, "height width"]:
        """The pixels of the label map.

        Raises:
            DataError: the file cannot be read.
            VitjaxError: its pixels are no labels, or one is no class. A loader would replace the record at a DataError,
                and so hide it.
        """
        path = _map_of(self.folder / "images" / self.names[record])
        data = read_bytes(path, _WISH)
        try:
            labels = np.array(opened(io.BytesIO(data), str(path), self.pixels))
        except (OSError, ValueError, SyntaxError) as error:
            raise DataError(f"{path} cannot be read as a label map ({error}).") from error
        _require_labels(data[:_START], path)
        strange = labels[(labels >= len(self.classes)) & (labels != NO_LABEL)]
        if strange.size:
            known = f"{CLASSES_FILE} names {len(self.classes)} classes, and {NO_LABEL} is for no label"
            raise VitjaxError(f"{path} has the label {strange[0]}, but {known}.")
        return labels

    def name(self, record: int) -> str:
        """The path of the image in the folder of the split."""
        return f"images/{self.names[record]}"


class _Looked(NamedTuple):
    """The (height, width) of an image with a label map, or None and why it is left out."""

    size: tuple[int, int] | None
    fault: str = ""
    example: str = ""


def _map_of(image: Path) -> Path:
    return image.parent.parent / "labels" / f"{image.stem}.png"


def _look(path: Path, finder: Finder, limit: int) -> _Looked:
    if not _map_of(path).is_file():
        return _Looked(None, "left out images without a label map", path.name)
    if not all(finder.stays(str(each.parent), each.name) for each in (path, _map_of(path))):
        return _Looked(None, OUTSIDE, str(path))
    try:
        with open_file(path) as image, open_file(_map_of(path)) as labels:
            size, other = read_size(image, str(path), limit), read_size(labels, str(_map_of(path)), limit)
            labels.seek(0)
            start = labels.read(_START)
    except (DataError, OSError) as error:
        return _Looked(None, "left out images that cannot be read", str(error))
    _require_labels(start, _map_of(path))
    if size != other:
        return _Looked(None, "left out images whose label map has another size", path.name)
    return _Looked(size)


def _require_labels(start: bytes, path: Path) -> None:
    """Nothing, if a file that starts so has a label in each pixel (Source: PNG specification, section 11.2.1: IHDR)."""
    if not start.startswith(_PNG):
        found = "no PNG"
    else:
        depth, colour = start[-2:]
        if colour == _PALETTE or (depth, colour) == (8, _GREY):
            return
        found = f"a PNG with {depth}-bit {_COLOURS.get(colour, 'unknown')} pixels"
    raise VitjaxError(f"{path} is {found}; save label maps as PNG with 8-bit grey or palette pixels, the labels.")


def _read_classes(path: Path) -> Classes:
    lines = read_bytes(path, _WISH).decode("utf-8", errors="replace").splitlines()
    names = tuple(line.strip() for line in lines if line.strip())
    if not 2 <= len(names) <= NO_LABEL:
        raise DataError(f"{path} names {len(names)} classes, one per line; label maps have from 2 to {NO_LABEL}.")
    return Classes(names, tuple(range(len(names))))
