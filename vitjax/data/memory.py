"""Sources in memory: part of another source, and the images that a user names."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int
from PIL import Image

from vitjax.data.decode import ARRAYS, as_rgb, decode, decoded, read_upright_size
from vitjax.data.errors import DataError
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


Picture = str | Path | Image.Image | np.ndarray


class Pictures:
    """Images that a user names, upright as their EXIF says, without annotations; a SizedSource.

    Raises:
        DataError: a file is missing or is no image, or an array is none, as `as_rgb` says.
    """

    problems: tuple[str, ...] = ()
    max_objects = 0

    def __init__(self, pictures: Sequence[Picture], classes: Classes) -> None:
        """Reads the headers only; pixels are decoded when they are asked for."""
        self._pictures = [_opened(picture) for picture in pictures]
        self.classes = classes
        self.sizes = np.array([_size(picture) for picture in self._pictures], np.int32).reshape(-1, 2)
        self.image_ids = range(1, len(self._pictures) + 1)

    def __len__(self) -> int:
        """The number of images."""
        return len(self._pictures)

    def __getitem__(self, record: int) -> Sample:
        """The decoded image, without objects."""
        picture = self._pictures[record]
        image = decode(picture.read_bytes(), str(picture), orient=True) if isinstance(picture, Path) else picture
        return Sample(image, np.zeros((0, 4), np.float32), np.zeros(0, np.int32))

    def name(self, record: int) -> str:
        """The file, or the number of an image that came without one."""
        picture = self._pictures[record]
        return str(picture) if isinstance(picture, Path) else f"image {record}"


def _opened(picture: Picture) -> Path | np.ndarray:
    if isinstance(picture, (str, Path)):
        return Path(picture)
    if isinstance(picture, Image.Image):
        return decoded(picture)
    if not isinstance(picture, np.ndarray):
        raise DataError(f"{ARRAYS}; got {type(picture).__name__}.")
    return as_rgb(picture)


def _size(picture: Path | np.ndarray) -> tuple[int, int]:
    """(height, width) after EXIF orientation, from the header alone."""
    if isinstance(picture, np.ndarray):
        return picture.shape[0], picture.shape[1]
    try:
        with picture.open("rb") as file:
            return read_upright_size(file, str(picture))
    except OSError as error:
        raise DataError(f"{picture} cannot be opened: {error.strerror}.") from error
