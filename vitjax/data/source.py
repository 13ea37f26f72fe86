"""What every data set looks like from outside: images by number, with the boxes on them or the label of the whole."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int, UInt8

from vitjax.batch import NO_LABEL as NO_LABEL
from vitjax.data.errors import DataError, require_positive


@dataclass(frozen=True, eq=False)
class Sample:
    """One image and what is on it: boxes are xyxy in pixels of `image`, labels in [0, classes).

    `label_map` is the class of every pixel, NO_LABEL where it is not known; None where the data have no such maps.
    `masks` tells which pixels the objects cover, packed by `vitjax.data.masks.pack`; None where the data have none.
    """

    image: UInt8[np.ndarray, "height width 3"]
    boxes: Float[np.ndarray, "objects 4"]
    labels: Int[np.ndarray, " objects"]
    label_map: UInt8[np.ndarray, "height width"] | None = None
    masks: UInt8[np.ndarray, "height width planes"] | None = None


@dataclass(frozen=True)
class Limits:
    """What images of a data set may ask of this machine; what goes beyond is left out or mended, counted and told."""

    pixels: int = 89_478_485
    """Pixels of an image, by its header: half a megabyte can unpack to gigabytes. The default is Pillow's."""
    objects: int = 5_000
    """Objects of an image: every batch has places for the most of any. Those beyond count as crowds: they are neither
    trained on nor asked for in scoring."""
    outside: bool = False
    """Take images that lie outside of the data folder, where an absolute file name, .. or a link leads to them."""

    def __post_init__(self) -> None:
        """Raises a FieldError for numbers that allow nothing."""
        require_positive(pixels=self.pixels, objects=self.objects)


LIMITS = Limits()
"""Those that hold where nobody says others."""


def labelled(image: UInt8[np.ndarray, "height width 3"], label: int) -> Sample:
    """The sample of a labelled image: one object, which is all of it."""
    height, width = image.shape[:2]
    return Sample(image, np.array([[0, 0, width, height]], np.float32), np.array([label], np.int32))


def mapped(image: UInt8[np.ndarray, "height width 3"], label_map: UInt8[np.ndarray, "height width"]) -> Sample:
    """The sample of an image whose pixels are labelled; it has no objects."""
    return Sample(image, np.zeros((0, 4), np.float32), np.zeros(0, np.int32), label_map)


@dataclass(frozen=True)
class Classes:
    """What the labels mean: label i is called `names[i]` and is written as `category_ids[i]` in COCO files.

    A label that no category uses (a gap in the ids) has the name "". Labels in `stuff` are of what cannot be counted,
    as sky; whether that is known does not make classes others.
    """

    names: tuple[str, ...]
    category_ids: tuple[int, ...]
    stuff: tuple[int, ...] = field(default=(), compare=False)

    def __len__(self) -> int:
        """The number of labels, unused ones included."""
        return len(self.names)

    def require(self, found: "Classes", where: str) -> None:
        """Nothing, if `found`, the classes of `where`, are these very ones.

        Raises:
            DataError: they are not, so the labels would mean different things.
        """
        if found == self:
            return
        mine, theirs = (dict(zip(which.category_ids, which.names, strict=True)) for which in (self, found))
        more, less = (dict(a.items() - b.items()) or "none" for a, b in ((theirs, mine), (mine, theirs)))
        raise DataError(
            f"{where} has other categories than the model is made for: {more} more, {less} missing. "
            "Give both the same list of categories (id: name), with those that do not occur."
        )


@runtime_checkable
class Source(Protocol):
    """A data set opened for reading; it can be pickled, so that worker processes read from it.

    `max_objects` is the most objects on one image; `problems` are lines for people about what was skipped or mended,
    each with a count and a first example.
    """

    @property
    def classes(self) -> Classes:
        """The meaning of the labels."""

    @property
    def max_objects(self) -> int:
        """The most objects on any one image; 1 where images are labelled as a whole."""

    @property
    def image_ids(self) -> Sequence[int] | Sequence[str]:
        """What each record's image is called in ground truth and results."""

    @property
    def problems(self) -> tuple[str, ...]:
        """One line for each kind of thing that was skipped or mended."""

    def __len__(self) -> int:
        """The number of records."""

    def __getitem__(self, record: int) -> Sample:
        """The image and objects of a record.

        Raises:
            DataError: the image cannot be read.
        """

    def name(self, record: int) -> str:
        """The record's file name, for messages."""


@runtime_checkable
class SizedSource(Source, Protocol):
    """A source whose image sizes are known without decoding, which is what a plan of many sizes begins with."""

    @property
    def sizes(self) -> Int[np.ndarray, "records 2"]:
        """Height and width of every image, as `source[record].image` will have them."""


@runtime_checkable
class LabelMapSource(SizedSource, Protocol):
    """A source of images with a label for every pixel."""

    def label_map(self, record: int) -> UInt8[np.ndarray, "height width"]:
        """The class of every pixel of a record's image, NO_LABEL where it is not known.

        Raises:
            DataError: the map cannot be read.
            VitjaxError: it has a label that is no class.
        """


@runtime_checkable
class DetectionSource(SizedSource, Protocol):
    """A source of images with boxes, and the truth that detections are scored against."""

    def ground_truth(self) -> dict:
        """COCO instances (images, annotations, categories) that are safe for pycocotools.

        Crowd annotations are in it; annotation ids are unique and start at 1.
        """
