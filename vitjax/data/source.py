"""What every data set looks like from outside: images with boxes, by number, and the ground truth to score against."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int, UInt8

from vitjax.data.errors import DataError


@dataclass(frozen=True, eq=False)
class Sample:
    """One image and what is on it: boxes are xyxy in pixels of `image`, labels in [0, classes)."""

    image: UInt8[np.ndarray, "height width 3"]
    boxes: Float[np.ndarray, "objects 4"]
    labels: Int[np.ndarray, " objects"]


@dataclass(frozen=True)
class Classes:
    """What the labels mean: label i is called `names[i]` and is written as `category_ids[i]` in COCO files.

    A label that no category uses (a gap in the ids) has the name "".
    """

    names: tuple[str, ...]
    category_ids: tuple[int, ...]

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

    `sizes` is (height, width) of every image, known without decoding it; `max_objects` is the most objects on one
    image; `problems` are lines for people about what was skipped or mended, each with a count and a first example.
    """

    @property
    def classes(self) -> Classes:
        """The meaning of the labels."""
        ...

    @property
    def sizes(self) -> Int[np.ndarray, "records 2"]:
        """Height and width of every image, as `source[record].image` will have them."""
        ...

    @property
    def max_objects(self) -> int:
        """The most objects on any one image."""
        ...

    @property
    def image_ids(self) -> Sequence[int]:
        """The id of every record's image in the ground truth."""
        ...

    @property
    def problems(self) -> tuple[str, ...]:
        """One line for each kind of thing that was skipped or mended."""
        ...

    def __len__(self) -> int:
        """The number of records."""
        ...

    def __getitem__(self, record: int) -> Sample:
        """The image and objects of a record.

        Raises:
            DataError: the image cannot be read.
        """
        ...

    def name(self, record: int) -> str:
        """The record's file name, for messages."""
        ...

    def ground_truth(self) -> dict:
        """COCO instances (images, annotations, categories) that are safe for pycocotools.

        Crowd annotations are in it; annotation ids are unique and start at 1.
        """
        ...
