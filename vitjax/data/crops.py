"""The square crops of classification: a random one to train on, the centre to evaluate."""

import math
from dataclasses import dataclass, field
from typing import ClassVar

import cv2
import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from vitjax.data.augmentation_parts import ColorJitter, require_probability
from vitjax.data.errors import require_sides
from vitjax.data.rand_augment import RandAugment
from vitjax.data.recolor import recolored
from vitjax.errors import FieldError

_DRAWS = 10  # areas and aspects tried before the centre is taken
_LONGEST = 64  # times the shorter side that a centre crop looks at


@dataclass(frozen=True)
class RandomCrop:
    """The random crop of training: a part of the image becomes the square, then come the mirror and RandAugment.

    The colour jitter that the published settings name too is off by default, as timm leaves it out beside RandAugment.

    Sources: Szegedy et al. 2015 (Inception); torchvision, RandomResizedCrop; CrossFormer data/build.py.
    """

    task: ClassVar[str] = "classification"

    size: int = 224
    """Side of the square in pixels."""
    area: tuple[float, float] = (0.08, 1.0)
    """Smallest and largest share of the image that is cut out."""
    aspect: tuple[float, float] = (3 / 4, 4 / 3)
    """Smallest and largest width / height of what is cut out, drawn so that a ratio is as likely as its inverse."""
    flip: float = 0.5
    """Probability of a mirror image."""
    rand_augment: RandAugment = field(default_factory=RandAugment)
    """What is done to the colours and the shape at last."""
    vertical_flip: float = 0.0
    """Probability of an image upside down."""
    turn: float = 0.0
    """Probability of one, two or three quarter turns."""
    color_jitter: ColorJitter = field(default_factory=ColorJitter)
    """Other colours, before RandAugment."""

    def __post_init__(self) -> None:
        """Refuses a size, a range or a probability that cannot be."""
        require_sides("RandomCrop", size=self.size)
        if not 0 < self.area[0] <= self.area[1] <= 1:
            raise FieldError(f"RandomCrop.area is (smallest, largest) share of the image in (0, 1], got {self.area}")
        if not 0 < self.aspect[0] <= self.aspect[1] < math.inf:
            raise FieldError(f"RandomCrop.aspect is (smallest, largest) ratio above 0, got {self.aspect}")
        require_probability(self, "flip", "vertical_flip", "turn")

    def __call__(
        self, image: UInt8[np.ndarray, "height width 3"], rng: np.random.Generator
    ) -> UInt8[np.ndarray, "size size 3"]:
        """The square; all that is random comes from `rng`."""
        top, left, height, width = self._draw(image.shape[0], image.shape[1], rng)
        square = _resized(image[top : top + height, left : left + width], self.size, self.size)
        if rng.random() < self.flip:
            square = cv2.flip(square, 1)
        return self.rand_augment(self._further(square, rng.spawn(1)[0].random(8)), rng)

    def _further(
        self, square: UInt8[np.ndarray, "size size 3"], numbers: Float[np.ndarray, "8"]
    ) -> UInt8[np.ndarray, "size size 3"]:
        vertical, turned, quarter, colored = numbers[:4]
        if vertical < self.vertical_flip:
            square = cv2.flip(square, 0)
        if turned < self.turn:
            square = np.ascontiguousarray(np.rot90(square, 1 + int(3 * quarter)))
        if colored < self.color_jitter.probability:
            square = recolored(square, self.color_jitter, numbers[4:])
        return square

    def _draw(self, height: int, width: int, rng: np.random.Generator) -> tuple[int, int, int, int]:
        """A (top, left, height, width) in the image: the first that fits, or else the most of it that has an aspect."""
        area = rng.uniform(*self.area, _DRAWS) * height * width
        aspect = np.exp(rng.uniform(math.log(self.aspect[0]), math.log(self.aspect[1]), _DRAWS))
        tall, wide = np.rint(np.sqrt([area / aspect, area * aspect])).astype(int)
        fits = (0 < tall) & (tall <= height) & (0 < wide) & (wide <= width)
        if not fits.any():
            return self._middle(height, width)
        first = fits.argmax()
        crop_h, crop_w = int(tall[first]), int(wide[first])
        return int(rng.integers(height - crop_h + 1)), int(rng.integers(width - crop_w + 1)), crop_h, crop_w

    def _middle(self, height: int, width: int) -> tuple[int, int, int, int]:
        crop_h, crop_w = height, width
        if width / height < self.aspect[0]:
            crop_h = max(1, round(width / self.aspect[0]))
        elif width / height > self.aspect[1]:
            crop_w = max(1, round(height * self.aspect[1]))
        return (height - crop_h) // 2, (width - crop_w) // 2, crop_h, crop_w


@dataclass(frozen=True)
class CenterCrop:
    """The crop of evaluation: the shorter side becomes `resize`, and of that the square in the middle is taken.

    Pixel by pixel what torchvision makes of a Pillow image, save that of an image more than 64 times as long as wide
    only the middle is resized.

    Source: CrossFormer data/build.py:118-131.
    """

    task: ClassVar[str] = "classification"

    size: int = 224
    """Side of the square in pixels."""
    resize: int = 256
    """Shorter side of the image in pixels before the square is cut out."""
    nearest: bool = False
    """Round the longer side to the nearest pixel, and halves of one down where the square begins; torchvision rounds
    the side down, and halves to the next even number."""

    def __post_init__(self) -> None:
        """Refuses sides that cannot be, and a square larger than the resized image."""
        require_sides("CenterCrop", size=self.size, resize=self.resize)
        if self.resize < self.size:
            raise FieldError(f"CenterCrop.resize is at least its size of {self.size}, got {self.resize}")

    def __call__(self, image: UInt8[np.ndarray, "height width 3"]) -> UInt8[np.ndarray, "size size 3"]:
        """The square."""
        short = min(image.shape[:2])
        # A side that is nearly a line would be resized to millions of pixels, of which the square shows a few hundred.
        image = _centre(image, *(min(side, _LONGEST * short) for side in image.shape[:2]))
        resized = _resized(image, *self.sides(*image.shape[:2]))
        top, left = self.corner(*resized.shape[:2])
        return resized[top : top + self.size, left : left + self.size]

    def sides(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of an image once it is resized."""
        short = min(height, width)
        half = short // 2 if self.nearest else 0
        return (self.resize * height + half) // short, (self.resize * width + half) // short

    def corner(self, height: int, width: int) -> tuple[int, int]:
        """The first row and column of the square in a resized image."""
        if self.nearest:
            return (height - self.size) // 2, (width - self.size) // 2
        return round((height - self.size) / 2), round((width - self.size) / 2)


def _resized(image: UInt8[np.ndarray, "height width 3"], height: int, width: int) -> UInt8[np.ndarray, "out_h out_w 3"]:
    """The image at another size, antialiased bicubic; OpenCV's bicubic is another curve and has no antialiasing."""
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))


def _centre(image: UInt8[np.ndarray, "height width 3"], height: int, width: int) -> UInt8[np.ndarray, "out_h out_w 3"]:
    top, left = round((image.shape[0] - height) / 2), round((image.shape[1] - width) / 2)
    return image[top : top + height, left : left + width]
