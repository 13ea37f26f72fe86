"""Sources in memory: part of another source, and the images that a user names."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int
from PIL import Image

from vitjax.data.addresses import fetch, is_address
from vitjax.data.arrays import ARRAYS, as_rgb
from vitjax.data.decode import decode, decoded, read_upright_size
from vitjax.data.errors import DataError
from vitjax.data.folder import open_file, read_bytes
from vitjax.data.source import Classes, Sample, Source

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif")


@dataclass(frozen=True)
class Subset:
    """Some records of another source, renumbered from 0; a Source, and a SizedSource of one."""

    source: Source
    records: Sequence[int]

    @property
    def classes(self) -> Classes:
        """The classes of the whole."""
        return self.source.classes

    @property
    def max_objects(self) -> int:
        """The most objects on any image of the whole."""
        return self.source.max_objects

    @property
    def image_ids(self) -> list:
        """The ids that the images have in the whole."""
        return [self.source.image_ids[record] for record in self.records]

    @property
    def problems(self) -> tuple[str, ...]:
        """Those of the whole."""
        return self.source.problems

    @property
    def sizes(self) -> Int[np.ndarray, "records 2"]:
        """Height and width of every chosen image, where the whole has them."""
        whole: Any = self.source
        return whole.sizes[np.asarray(self.records, int)]

    def __len__(self) -> int:
        """The number of chosen records."""
        return len(self.records)

    def __getitem__(self, record: int) -> Sample:
        """The sample of a chosen record."""
        return self.source[self.records[record]]

    def name(self, record: int) -> str:
        """Its name in the whole."""
        return self.source.name(self.records[record])


Picture = str | Path | Image.Image | np.ndarray | bytes | bytearray | memoryview
"""An image as people have it: a file or address, what Pillow or NumPy (or JAX) has, or the bytes of a file."""


def is_picture(given: Any) -> bool:
    """Whether it is one image, and no list of them; an array of four axes is a list."""
    if isinstance(given, str | Path | Image.Image | bytes | bytearray | memoryview):
        return True
    return hasattr(given, "__array__") and getattr(given, "ndim", 0) != 4


def pictures_of(given: Any) -> list[Any]:
    """The images of a list, or of an array [images, height, width, channels], whose numbers are all of one kind.

    Raises:
        DataError: it is no list, or an array is no images.
    """
    if hasattr(given, "__array__"):
        rows = np.asarray(given)
        if len(rows) == 0:
            return []
        images = as_rgb(rows.reshape(-1, *rows.shape[2:]), "the array of images")  # one above the other
        return list(images.reshape(*rows.shape[:3], 3))
    try:
        return list(given)
    except TypeError as error:
        raise DataError(f"{ARRAYS}, or the bytes of a file; got {type(given).__name__}.") from error


class Pictures:
    """Images that a user names, upright as their EXIF says, without annotations; a SizedSource.

    Addresses are fetched and bytes decoded at once, files when they are asked for.

    Raises:
        DataError: a file is missing or is no image, an address cannot be fetched, or an array is no image, as `as_rgb`
            says.
    """

    problems: tuple[str, ...] = ()
    max_objects = 0

    def __init__(self, pictures: Sequence[Any], classes: Classes) -> None:
        """Reads the headers of files only; their pixels are decoded when they are asked for."""
        alone = len(pictures) == 1
        named = [("the image" if alone else f"image {record}", one) for record, one in enumerate(pictures)]
        self._pictures = [_opened(picture, name) for name, picture in named]
        self._addresses = {record: one for record, one in enumerate(pictures) if _is_address(one)}
        self.classes = classes
        self.sizes = np.array([_size(picture) for picture in self._pictures], np.int32).reshape(-1, 2)
        self.image_ids = range(1, len(self._pictures) + 1)

    def __len__(self) -> int:
        """The number of images."""
        return len(self._pictures)

    def __getitem__(self, record: int) -> Sample:
        """The decoded image, without objects."""
        picture = self._pictures[record]
        image = decode(read_bytes(picture), str(picture), orient=True) if isinstance(picture, Path) else picture
        return Sample(image, np.zeros((0, 4), np.float32), np.zeros(0, np.int32))

    def name(self, record: int) -> str:
        """The file or address, or the number of an image that came without one."""
        picture = self._pictures[record]
        return str(picture) if isinstance(picture, Path) else str(self._addresses.get(record, f"image {record}"))


def _is_address(picture: Any) -> bool:
    return isinstance(picture, str) and is_address(picture)


def _opened(picture: Any, name: str) -> Path | np.ndarray:
    if _is_address(picture):
        return decode(fetch(picture), picture, orient=True)
    if isinstance(picture, str) and "://" in picture:
        raise DataError(
            f"{picture} cannot be fetched: addresses begin with http:// or https://. Name a file, or bytes."
        )
    if isinstance(picture, str | Path):
        return Path(picture)
    if isinstance(picture, bytes | bytearray | memoryview):
        return decode(bytes(picture), name, orient=True)
    if isinstance(picture, Image.Image):
        try:
            return decoded(picture)
        except OSError as error:  # Pillow reads the pixels only now
            raise DataError(f"{name} is broken or truncated ({error}). Open it again, or replace the file.") from error
    if not hasattr(picture, "__array__"):
        raise DataError(f"{ARRAYS}, or the bytes of a file; got {type(picture).__name__}.")
    return as_rgb(np.asarray(picture), name)


def _size(picture: Path | np.ndarray) -> tuple[int, int]:
    """(height, width) after EXIF orientation, from the header alone."""
    if isinstance(picture, np.ndarray):
        return picture.shape[0], picture.shape[1]
    try:
        with open_file(picture) as file:
            return read_upright_size(file, str(picture))
    except OSError as error:
        raise DataError(f"{picture} cannot be opened: {error.strerror}.") from error
