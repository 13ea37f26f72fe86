"""RandAugment: a few operations drawn from a table, each of about the same strength, on the pixels of one image."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageEnhance, ImageOps

from vitjax.data.geometry import FILL
from vitjax.errors import FieldError

STRONGEST = 10.0
"""The magnitude of strength 1."""
Operation = Callable[[Image.Image, float, int], Image.Image]
"""(image, strength in [0, 1], sign -1 or 1) -> image of the same size."""

OPERATIONS: dict[str, Operation] = {
    "auto_contrast": lambda image, strength, sign: ImageOps.autocontrast(image),
    "equalize": lambda image, strength, sign: ImageOps.equalize(image),
    "invert": lambda image, strength, sign: ImageOps.invert(image),
    "rotate": lambda image, strength, sign: image.rotate(
        30 * sign * strength, Image.Resampling.BICUBIC, fillcolor=FILL
    ),
    "posterize": lambda image, strength, sign: _posterized(image, bits=4 - int(4 * strength)),
    "solarize": lambda image, strength, sign: ImageOps.solarize(image, 256 - int(256 * strength)),
    "solarize_add": lambda image, strength, sign: _shadows_lifted(image, by=int(110 * strength)),
    "color": lambda image, strength, sign: ImageEnhance.Color(image).enhance(_factor(strength, sign)),
    "contrast": lambda image, strength, sign: ImageEnhance.Contrast(image).enhance(_factor(strength, sign)),
    "brightness": lambda image, strength, sign: ImageEnhance.Brightness(image).enhance(_factor(strength, sign)),
    "sharpness": lambda image, strength, sign: ImageEnhance.Sharpness(image).enhance(_factor(strength, sign)),
    "shear_x": lambda image, strength, sign: _affine(image, (1, 0.3 * sign * strength, 0, 0, 1, 0)),
    "shear_y": lambda image, strength, sign: _affine(image, (1, 0, 0, 0.3 * sign * strength, 1, 0)),
    "translate_x": lambda image, strength, sign: _affine(image, (1, 0, 0.45 * sign * strength * image.width, 0, 1, 0)),
    "translate_y": lambda image, strength, sign: _affine(image, (1, 0, 0, 0, 1, 0.45 * sign * strength * image.height)),
}
"""All that RandAugment draws from.

Strength 0 changes nothing, with four exceptions: auto_contrast, equalize and invert know no strength, and posterize
still keeps no more than 4 of 8 bits (at strength 1 none: the image is black).

Source: timm data/auto_augment.py, the increasing set, resampled bicubic and filled as CrossFormer data/build.py asks.
"""


@dataclass(frozen=True)
class RandAugment:
    """Draws operations with replacement and applies each, or not, at a magnitude of its own; 'rand-m9-mstd0.5-inc1'.

    Sources: Cubuk et al. 2020 (RandAugment); timm data/auto_augment.py.
    """

    operations: int = 2
    """Operations drawn for an image; 0 switches it off."""
    magnitude: float = 9.0
    """Mean magnitude of an operation, from 0 to 10."""
    deviation: float = 0.5
    """Standard deviation of the magnitude, which is clipped to [0, 10]."""
    probability: float = 0.5
    """How often an operation that is drawn is applied."""

    def __post_init__(self) -> None:
        """Refuses a number of operations, a magnitude or a probability that cannot be."""
        if self.operations < 0:
            raise FieldError(f"RandAugment.operations is at least 0, got {self.operations}")
        if not 0 <= self.magnitude <= STRONGEST:
            raise FieldError(f"RandAugment.magnitude is in [0, {STRONGEST:g}], got {self.magnitude}")
        if not 0 <= self.deviation < math.inf:
            raise FieldError(f"RandAugment.deviation is finite and at least 0, got {self.deviation}")
        if not 0 <= self.probability <= 1:
            raise FieldError(f"RandAugment.probability is in [0, 1], got {self.probability}")

    def __call__(
        self, image: UInt8[np.ndarray, "height width 3"], rng: np.random.Generator
    ) -> UInt8[np.ndarray, "height width 3"]:
        """The image after the operations, in the order in which they were drawn."""
        applied = rng.random(self.operations) < self.probability
        chosen = rng.integers(len(OPERATIONS), size=self.operations)
        strength = rng.normal(self.magnitude, self.deviation, self.operations).clip(0, STRONGEST) / STRONGEST
        sign = 1 - 2 * rng.integers(2, size=self.operations)
        if not applied.any():
            return image
        table, result = list(OPERATIONS.values()), Image.fromarray(image)
        for place in np.flatnonzero(applied):
            result = table[chosen[place]](result, float(strength[place]), int(sign[place]))
        return np.asarray(result)


def _factor(strength: float, sign: int) -> float:
    """What an enhancement multiplies by, from 0.1 to 1.9; 1 keeps the image."""
    return 1 + 0.9 * sign * strength


def _affine(image: Image.Image, matrix: tuple[int | float, ...]) -> Image.Image:
    """The image whose pixel (x, y) is the old one at (a x + b y + c, d x + e y + f)."""
    kind, resample = Image.Transform.AFFINE, Image.Resampling.BICUBIC
    return image.transform(image.size, kind, matrix, resample, fillcolor=FILL)


def _posterized(image: Image.Image, bits: int) -> Image.Image:
    """The image with only the upper bits of its levels; Pillow's own refuses 0 of them since version 13."""
    kept = 256 - 2 ** (8 - bits)
    return image.point([level & kept for level in range(256)] * 3)


def _shadows_lifted(image: Image.Image, by: int) -> Image.Image:
    """The image with the darker half of the levels raised."""
    return image.point([min(255, level + by) if level < 128 else level for level in range(256)] * 3)
