"""The handwritten digits of scikit-learn as labelled images: real data for a classifier, without a download."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Int, UInt8

from vitjax.data.digit_scenes import OpenedDigits, handwritten
from vitjax.data.digits import SPLITS
from vitjax.data.errors import DataError
from vitjax.data.source import Classes, Sample, labelled

TEN_DIGITS = Classes(tuple("0123456789"), tuple(range(10)))
"""The classes of an image that shows one digit."""


@dataclass(frozen=True)
class DigitImages:
    """The 1,797 digits of 8x8 pixels, bright ink on black; `val` has every fifth, the same as the val of `Digits`."""

    task: ClassVar[str] = "classification"

    train_split: str = "train"
    """Split to train on."""
    split: str = "val"
    """Split to evaluate on."""

    def open(self, split: str) -> "DigitScans":
        """The digits of `train` or `val`.

        Raises:
            DataError: there is no such split.
        """
        if split not in SPLITS:
            raise DataError(f"digit images have the splits train and val; got {split!r}. Choose one of them.")
        ink, labels = handwritten(split)
        return DigitScans(split, np.rint(ink * (255 / 16)).astype(np.uint8), labels)


@dataclass(frozen=True, eq=False)
class DigitScans(OpenedDigits):
    """One split of `DigitImages`, opened; a Source."""

    called: ClassVar[str] = "digit_images"

    split: str
    ink: UInt8[np.ndarray, "records 8 8"]
    labels: Int[np.ndarray, " records"]
    classes: Classes = TEN_DIGITS
    max_objects: int = 1  # an image is labelled as a whole

    def __len__(self) -> int:
        """The number of digits."""
        return len(self.labels)

    def labels_on(self, record: int) -> Int[np.ndarray, " 1"]:
        """The label of an image, without decoding it."""
        return self.labels[record : record + 1]

    def __getitem__(self, record: int) -> Sample:
        """A digit in grey, and which one it is."""
        self.require(record)
        return labelled(np.repeat(self.ink[record][:, :, None], 3, axis=2), int(self.labels[record]))
