"""One handwritten digit somewhere on a larger canvas, among fragments of others: labelled images that must be searched.

Source: the (cluttered) translated MNIST of Mnih et al. 2014 (RAM), sections 4.1 and 4.2, with scikit-learn's digits.
"""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import cv2
import numpy as np
from jaxtyping import Float, Int, UInt8

from vitjax.data.digit_images import TEN_DIGITS
from vitjax.data.digit_scenes import OpenedDigits, handwritten
from vitjax.data.digits import SPLITS
from vitjax.data.errors import DataError
from vitjax.data.source import Classes, Sample, labelled


@dataclass(frozen=True)
class DigitCanvas:
    """Canvases with one digit, bright ink on black; record i is a function of (seed, split, i) alone.

    Digits and fragments of `val` are those that `Digits` keeps for its `val`.
    """

    task: ClassVar[str] = "classification"

    size: int = 60
    """Side of the canvas in pixels."""
    digit: int = 20
    """Side in pixels of the square that holds the digit, before it is turned."""
    clutter: int = 4
    """Fragments of other digits, strewn before the digit is laid on them."""
    fragment: int = 8
    """Side of a fragment in pixels."""
    rotation: float = 0.0
    """Greatest angle, in degrees to either side, that the digit is turned by."""
    train_images: int = 10_000
    """Canvases in the train split."""
    val_images: int = 500
    """Canvases in the val split."""
    seed: int = 0
    """Another seed is another data set."""
    train_split: str = "train"
    """Split to train on."""
    split: str = "val"
    """Split to evaluate on."""

    def open(self, split: str) -> "DigitCanvases":
        """The canvases of `train` or `val`.

        Raises:
            DataError: there is no such split, or the fields contradict each other.
        """
        if split not in SPLITS:
            raise DataError(f"digit canvases have the splits train and val; got {split!r}. Choose one of them.")
        for wish, fulfilled in self._wishes().items():
            if not fulfilled:
                raise DataError(f"DigitCanvas needs {wish}.")
        ink, digits = handwritten(split)
        return DigitCanvases(self, split, np.stack([_enlarged(one, self.digit) for one in ink]), digits)

    @property
    def patch(self) -> int:
        """Side in pixels of the square that a digit of any angle fits into."""
        return self.digit if self.rotation == 0 else int(np.ceil(self.digit * np.sqrt(2)))

    def _wishes(self) -> dict[str, bool]:
        images = (self.train_images, self.val_images)
        return {
            f"digit >= 8; got {self.digit}": self.digit >= 8,
            f"room for the digit, {self.patch} pixels however it is turned; got size={self.size}": self.patch
            <= self.size,
            f"1 <= fragment <= digit; got {self.fragment}": 1 <= self.fragment <= self.digit,
            f"clutter >= 0; got {self.clutter}": self.clutter >= 0,
            f"0 <= rotation <= 180; got {self.rotation}": 0 <= self.rotation <= 180,
            f"train_images and val_images >= 1; got {images}": min(images) >= 1,
            f"seed >= 0; got {self.seed}": self.seed >= 0,
        }


@dataclass(frozen=True, eq=False)
class DigitCanvases(OpenedDigits):
    """One split of `DigitCanvas`, opened; a Source."""

    called: ClassVar[str] = "digit_canvas"

    config: DigitCanvas
    split: str
    ink: Float[np.ndarray, "digits side side"]
    digits: Int[np.ndarray, " digits"]
    classes: Classes = TEN_DIGITS
    max_objects: int = 1  # an image is labelled as a whole

    def __len__(self) -> int:
        """The number of canvases."""
        return self.config.train_images if self.split == "train" else self.config.val_images

    def __getitem__(self, record: int) -> Sample:
        """A canvas in grey, composed anew each time, and which digit is on it."""
        composed = self._composed(record)
        return labelled(np.repeat(composed.canvas[:, :, None], 3, axis=2), composed.label)

    def box(self, record: int) -> Int[np.ndarray, " 4"]:
        """Where the digit's square is, xyxy in pixels; no label says it, so a model has to find it."""
        return self._composed(record).box

    def degrees(self, record: int) -> float:
        """By how much the digit is turned, counterclockwise; no label says it either."""
        return self._composed(record).degrees

    def _composed(self, record: int) -> "_Composed":
        """The canvas and what is on it."""
        self.require(record)
        config = self.config
        rng = np.random.default_rng((config.seed, SPLITS.index(self.split), int(record)))
        canvas = np.zeros((config.size, config.size), np.float32)
        for other in rng.integers(len(self.ink), size=config.clutter):
            y, x = rng.integers(config.digit - config.fragment + 1, size=2)
            piece = self.ink[other, y : y + config.fragment, x : x + config.fragment]
            _laid(canvas, piece, rng)
        chosen = rng.integers(len(self.ink))
        degrees = rng.uniform(-1, 1) * config.rotation
        left, top = _laid(canvas, self._turned(self.ink[chosen], degrees), rng)
        box = np.array([left, top, left + config.patch, top + config.patch], np.int32)
        return _Composed(np.rint(canvas * 255).astype(np.uint8), box, degrees, int(self.digits[chosen]))

    def _turned(self, ink: Float[np.ndarray, "side side"], degrees: float) -> Float[np.ndarray, "patch patch"]:
        """A digit turned about its middle, in a square that every angle fits into."""
        side, patch = self.config.digit, self.config.patch
        if self.config.rotation == 0:
            return ink
        turn = cv2.getRotationMatrix2D(((side - 1) / 2, (side - 1) / 2), degrees, 1.0)
        turn = turn + np.array([[0, 0, 1], [0, 0, 1]]) * (patch - side) / 2
        return cv2.warpAffine(ink, turn, (patch, patch), flags=cv2.INTER_LINEAR)


class _Composed(NamedTuple):
    """A canvas, and the box, the angle and the label of the digit on it."""

    canvas: UInt8[np.ndarray, "size size"]
    box: Int[np.ndarray, "4"]
    degrees: float
    label: int


def _enlarged(ink: Float[np.ndarray, "8 8"], side: int) -> Float[np.ndarray, "side side"]:
    """A stored digit, ink in [0, 1], at another size."""
    return cv2.resize((ink / 16).astype(np.float32), (side, side), interpolation=cv2.INTER_CUBIC).clip(0, 1)


def _laid(canvas: np.ndarray, piece: np.ndarray, rng: np.random.Generator) -> tuple[int, int]:
    """Lays a piece on a random place of the canvas, ink upon ink; its left and top."""
    top, left = (int(rng.integers(whole - part + 1)) for whole, part in zip(canvas.shape, piece.shape, strict=True))
    window = canvas[top : top + piece.shape[0], left : left + piece.shape[1]]
    np.maximum(window, piece, out=window)
    return left, top
