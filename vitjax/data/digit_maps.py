"""The scenes of handwritten digits with a class for every pixel: real segmentation that needs no download."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import UInt8

from vitjax.data.digit_scenes import DigitScenes, Scene
from vitjax.data.digits import Digits
from vitjax.data.source import Classes, Sample, mapped

_BACKGROUND_AND_DIGITS = Classes(("background", *"0123456789"), tuple(range(11)))


@dataclass(frozen=True)
class DigitMaps(Digits):
    """The scenes of `Digits`, pixel by pixel the same: paper is background, ink is the digit that it belongs to."""

    task: ClassVar[str] = "segmentation"

    def open(self, split: str) -> "DigitMapScenes":
        """The scenes of `train` or `val`.

        Raises:
            DataError: there is no such split, or the fields contradict each other.
        """
        super().open(split)  # makes sure of both
        return DigitMapScenes(self, split)


@dataclass(frozen=True)
class DigitMapScenes(DigitScenes):
    """One split of `DigitMaps`, opened; a LabelMapSource, whose samples have no boxes."""

    classes: Classes = _BACKGROUND_AND_DIGITS

    @property
    def max_objects(self) -> int:
        """None: what is to be found are pixels."""
        return 0

    def __getitem__(self, record: int) -> Sample:
        """The scene of a record, with its label map."""
        scene = self.scene(record)
        return mapped(scene.image, _label_map(scene))

    def label_map(self, record: int) -> UInt8[np.ndarray, "height width"]:
        """The class of every pixel of a scene."""
        return _label_map(self.scene(record))


def _label_map(scene: Scene) -> UInt8[np.ndarray, "height width"]:
    """Nobody's ink, -1, takes the last entry of the table, which is the background."""
    return np.append(scene.digits + 1, 0).astype(np.uint8)[scene.owner]
