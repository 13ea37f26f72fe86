"""Flip, resize and crop: drawn from an image's size before it is decoded."""

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from jaxtyping import Bool, Float, Int

from vitjax.data.augmentation_parts import (
    ColorJitter,
    Cutout,
    LargeScaleJitter,
    Mosaic,
    ScaleJitter,
    require_probability,
)
from vitjax.data.errors import require_sides
from vitjax.data.geometry import Geometries
from vitjax.errors import FieldError

SCALES = (480, 512, 544, 576, 608, 640, 672, 704, 736, 768, 800)


@dataclass(frozen=True)
class Resize:
    """The resize for evaluation: the shorter side to `size`, the longer at most `max_side`; size None keeps the image.

    Source: DETR datasets/coco.py (800, 1333).
    """

    tasks: ClassVar[tuple[str, ...]] = ("detection", "segmentation")

    size: int | None = 800
    """Shorter side in pixels; None keeps the image as it is."""
    max_side: int | None = 1333
    """Longest that the longer side may become."""

    def __post_init__(self) -> None:
        """Refuses sizes that no image can have."""
        require_sides("Resize", size=self.size, max_side=self.max_side)

    def geometries(self, sizes: Int[np.ndarray, "images 2"]) -> Geometries:
        """The geometry of images of these (height, width)."""
        sizes = sizes.astype(np.int32)
        output = sizes
        if self.size is not None:
            output = resized_size(sizes, np.full(len(sizes), self.size), self.max_side)
        return _resized_only(sizes, output)


@dataclass(frozen=True)
class Augmentation:
    """The random flip, crop and resize of training; the defaults are those of DETR on COCO.

    An image is flipped, then either resized, or resized, cropped and resized again. Each side of the crop is drawn from
    `crop_range`, both ends included, as far as the image reaches.

    Source: DETR datasets/coco.py and transforms.py.
    """

    tasks: ClassVar[tuple[str, ...]] = ("detection", "segmentation")

    flip: float = 0.5
    """Probability of a mirror image."""
    sizes: tuple[int, ...] = SCALES
    """Shorter sides in pixels that an image may end with; none keeps its size."""
    max_side: int | None = 1333
    """Longest that the longer side may become."""
    crop: float = 0.5
    """Probability of resize, crop and resize in place of one resize."""
    crop_sizes: tuple[int, ...] = (400, 500, 600)
    """Shorter sides before the crop; none crops the image as it is."""
    crop_range: tuple[int, int] = (384, 600)
    """Shortest and longest side of the crop."""
    vertical_flip: float = 0.0
    """Probability of an image upside down."""
    turn: float = 0.0
    """Probability of one, two or three quarter turns."""
    scale_jitter: ScaleJitter = field(default_factory=ScaleJitter)
    """Another size of the whole image."""
    large_scale_jitter: LargeScaleJitter = field(default_factory=LargeScaleJitter)
    """Another size of what is on the image, which is cropped or stands on grey."""
    mosaic: Mosaic = field(default_factory=Mosaic)
    """Four images in one."""
    color_jitter: ColorJitter = field(default_factory=ColorJitter)
    """Other colours."""
    cutout: Cutout = field(default_factory=Cutout)
    """Grey rectangles."""
    own: str | None = None
    """Name of a transform of one's own, the last to come: a function of (sample) or (sample, rng) that gives a Sample
    of the same size, or an albumentations pipeline. Such as my_module.name, or name where it stands in the config."""
    least_visible: float = 0.1
    """Share of an object's area that must be left by large-scale jitter, mosaic or cutout; below it has no box."""

    def __post_init__(self) -> None:
        """Refuses probabilities outside [0, 1] and sizes that no image can have."""
        require_probability(self, "flip", "crop", "vertical_flip", "turn", "least_visible")
        sides = {"sizes": self.sizes, "crop_sizes": self.crop_sizes, "crop_range": self.crop_range}
        for name, values in sides.items():
            for value in values:
                require_sides("Augmentation", **{name: value})
        require_sides("Augmentation", max_side=self.max_side)
        if self.crop_range[0] > self.crop_range[1]:
            raise FieldError(f"Augmentation.crop_range is (smallest, largest) side, got {self.crop_range}")
        if not isinstance(self.own, str | None):
            raise FieldError(f"Augmentation.own is the name of a transform, in quotation marks, got {self.own!r}")

    @property
    def images_in_one(self) -> int:
        """The most images of which one of a batch is made."""
        return 4 if self.mosaic.probability else 1

    @property
    def is_finished(self) -> bool:
        """Whether anything is done that an image's geometry does not say."""
        parts = (self.mosaic, self.color_jitter, self.cutout)
        return self.own is not None or any(part.probability > 0 for part in parts)


def draw(augmentation: Augmentation, rng: np.random.Generator, sizes: Int[np.ndarray, "images 2"]) -> Geometries:
    """A random geometry for each image, from nothing but the images' (height, width).

    Image i takes the i-th row of the random numbers, so its geometry does not depend on the images after it; and what
    one augmentation draws does not depend on the others.
    """
    ordinary = rng.random((len(sizes), 8))
    further = rng.spawn(1)[0].random((len(sizes), 10))
    sizes = sizes.astype(np.int32)
    flips, upright = draw_flips(augmentation, np.concatenate([ordinary[:, :1], further[:, :3]], 1), sizes)
    resized, crop, output = _resize_and_crop(augmentation, ordinary[:, 1:].T, upright)
    scaled, factor, *_, four = further[:, 3:].T
    scale, mosaic = augmentation.scale_jitter, augmentation.mosaic
    factors = np.where(scaled < scale.probability, between(factor, scale.factors), 1.0)[:, None]
    output, joined = np.maximum(np.rint(output * factors), 1).astype(np.int32), four < mosaic.probability
    place, visible = np.full_like(sizes, -1), np.zeros(len(sizes))
    drawn = Geometries(sizes, *flips, resized, crop, output, place, visible, joined)
    if augmentation.large_scale_jitter.probability:
        from vitjax.data.canvas import on_canvases

        drawn = on_canvases(drawn, augmentation, upright, further[:, 5:9])
    if mosaic.size is not None:
        drawn.output[joined] = mosaic.size
    return drawn


Flips = tuple[Bool[np.ndarray, " images"], Bool[np.ndarray, " images"], Int[np.ndarray, " images"]]


def draw_flips(
    augmentation: Augmentation, numbers: Float[np.ndarray, "images 4"], sizes: Int[np.ndarray, "images 2"]
) -> tuple[Flips, Int[np.ndarray, "images 2"]]:
    """Which images the random numbers mirror, put upside down and turn so many quarters; and all sizes after that."""
    flip, vertical, turned, quarter = numbers.T
    turns = np.where(turned < augmentation.turn, 1 + _pick(quarter, 3), 0)
    upright = np.where((turns % 2 == 1)[:, None], sizes[:, ::-1], sizes)
    return (flip < augmentation.flip, vertical < augmentation.vertical_flip, turns), upright


def _resize_and_crop(
    augmentation: Augmentation, numbers: Float[np.ndarray, "7 images"], sizes: Int[np.ndarray, "images 2"]
) -> tuple[Int[np.ndarray, "images 2"], Int[np.ndarray, "images 4"], Int[np.ndarray, "images 2"]]:
    """The resize, the crop in it, and the size in the end, as DETR draws them."""
    branch, first, tall, wide, down, right, last = numbers
    cropped = branch < augmentation.crop
    resized = sizes
    if augmentation.crop_sizes:
        first_size = np.asarray(augmentation.crop_sizes)[_pick(first, len(augmentation.crop_sizes))]
        resized = np.where(cropped[:, None], resized_size(sizes, first_size, None), sizes)
    smallest, largest = (np.minimum(resized, side) for side in augmentation.crop_range)
    side = smallest + _pick(np.stack([tall, wide], 1), largest - smallest + 1)
    corner = _pick(np.stack([down, right], 1), resized - side + 1)
    crop = np.where(cropped[:, None], np.concatenate([corner, side], 1), _whole(resized))
    output = crop[:, 2:]
    if augmentation.sizes:
        last_size = np.asarray(augmentation.sizes)[_pick(last, len(augmentation.sizes))]
        output = resized_size(output, last_size, augmentation.max_side)
    return resized, crop, output


def between(uniform: Float[np.ndarray, " images"], ends: tuple[float, float]) -> Float[np.ndarray, " images"]:
    """The numbers, from [0, 1), between two ends."""
    return ends[0] + uniform * (ends[1] - ends[0])


def resized_size(
    sizes: Int[np.ndarray, "images 2"], short: Int[np.ndarray, " images"], max_side: int | None
) -> Int[np.ndarray, "images 2"]:
    """The (height, width) after the shorter side becomes `short`, or less where the longer would pass `max_side`.

    The longer side is truncated and a shortened shorter side is rounded, so a very long image can come out a pixel or
    two above `max_side`, as it does in the published code. No side is less than one pixel.

    Source: DETR datasets/transforms.py, get_size_with_aspect_ratio.
    """
    smaller, larger = sizes.min(1).astype(np.int64), sizes.max(1).astype(np.int64)
    short = short.astype(np.int64)
    if max_side is not None:
        too_long = larger / smaller * short > max_side
        short = np.where(too_long, np.rint(max_side * smaller / larger).astype(np.int64), short)
    short = np.maximum(short, 1)
    long = (short * larger / smaller).astype(np.int64)
    upright = sizes[:, 1] < sizes[:, 0]
    return np.where(upright[:, None], np.stack([long, short], 1), np.stack([short, long], 1)).astype(np.int32)


def _resized_only(sizes: Int[np.ndarray, "images 2"], output: Int[np.ndarray, "images 2"]) -> Geometries:
    never, nothing = np.zeros(len(sizes), bool), np.zeros(len(sizes), np.int32)
    place, visible = np.full_like(sizes, -1), np.zeros(len(sizes))
    return Geometries(sizes, never, never, nothing, sizes, _whole(sizes), output, place, visible, never)


def _whole(sizes: Int[np.ndarray, "images 2"]) -> Int[np.ndarray, "images 4"]:
    return np.concatenate([np.zeros_like(sizes), sizes], 1)


def _pick(
    uniform: Float[np.ndarray, "*images"], choices: int | Int[np.ndarray, "*images"]
) -> Int[np.ndarray, "*images"]:
    return (uniform * choices).astype(np.int64)
