"""Scenes of handwritten digits, composed on the fly: a real detection task that needs no download.

The digits are the 1,797 real 8x8 ones that ship inside scikit-learn. Every fifth is kept for the `val` split, so that a
detector is scored on handwritten digits that it has not seen.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from vitjax.data.errors import DataError

if TYPE_CHECKING:
    from vitjax.data.digit_scenes import DigitScenes

SPLITS = ("train", "val")
"""The parts that the handwritten digits are divided into."""


@dataclass(frozen=True)
class Digits:
    """Scenes of random handwritten digits with known boxes; record i is a function of (seed, split, i) alone."""

    task: ClassVar[str] = "detection"

    height: int = 64
    """Pixels of a scene."""
    width: int = 64
    """Pixels of a scene."""
    min_digits: int = 1
    """Fewest digits on a scene."""
    max_digits: int = 3
    """Most digits on a scene; one that finds no free place is left out."""
    min_size: int = 16
    """Height in pixels of the smallest digits."""
    max_size: int = 32
    """Height in pixels of the largest digits."""
    max_overlap: float = 0.1
    """Highest IoU of the boxes of two digits."""
    min_contrast: float = 0.4
    """Ink against background in every colour channel; 1 is black on white."""
    max_contrast: float = 0.8
    """Upper end of the same."""
    clutter: float = 0.1
    """Strength of the blots behind the digits; 1 is black on white."""
    noise: float = 0.02
    """Standard deviation of the grain on every pixel; 1 is black to white."""
    train_images: int = 20_000
    """Scenes in the train split."""
    val_images: int = 200
    """Scenes in the val split."""
    seed: int = 0
    """Another seed is another data set."""
    train_split: str = "train"
    """Split to train on."""
    split: str = "val"
    """Split to evaluate on."""

    def open(self, split: str) -> "DigitScenes":
        """The scenes of `train` or `val`.

        Raises:
            DataError: there is no such split, or the fields contradict each other.
        """
        if split not in SPLITS:
            raise DataError(f"digits has the splits train and val; got {split!r}. Choose one of them.")
        for wish, fulfilled in self._wishes().items():
            if not fulfilled:
                raise DataError(f"digits needs {wish}.")
        from vitjax.data.digit_scenes import DigitScenes  # which only those need who draw them

        return DigitScenes(self, split)

    def _wishes(self) -> dict[str, bool]:
        digits, sizes = (self.min_digits, self.max_digits), (self.min_size, self.max_size)
        canvas, contrast = (self.height, self.width), (self.min_contrast, self.max_contrast)
        images, strengths = (self.train_images, self.val_images), (self.clutter, self.noise)
        return {
            f"1 <= min_digits <= max_digits; got {digits}": 1 <= digits[0] <= digits[1],
            f"4 <= min_size <= max_size; got {sizes}": 4 <= sizes[0] <= sizes[1],
            f"max_size <= height and width; got {sizes[1]} and {canvas}": sizes[1] <= min(canvas),
            f"0 < min_contrast <= max_contrast <= 1; got {contrast}": 0 < contrast[0] <= contrast[1] <= 1,
            f"0 <= max_overlap <= 1; got {self.max_overlap}": 0 <= self.max_overlap <= 1,
            f"clutter and noise >= 0; got {strengths}": min(strengths) >= 0,
            f"train_images and val_images >= 1; got {images}": min(images) >= 1,
            f"seed >= 0; got {self.seed}": self.seed >= 0,
        }
