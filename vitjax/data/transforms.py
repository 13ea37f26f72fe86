"""Flip, resize and crop: drawn from an image's size before it is decoded, then applied to image, boxes and labels."""

from dataclasses import dataclass
from typing import ClassVar

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from PIL import Image

from vitjax.data.errors import DataError, require_sides
from vitjax.data.source import Sample
from vitjax.errors import FieldError

SCALES = (480, 512, 544, 576, 608, 640, 672, 704, 736, 768, 800)


@dataclass(frozen=True)
class Geometry:
    """What happens to one image, in this order: flip, resize, crop inside the resized image, resize to the output.

    Sizes are (height, width), the crop is (top, left, height, width), all in pixels. An image that is not cropped is
    only resized once: `resized` equals `source` and the crop is the whole of it.
    """

    source: tuple[int, int]
    flip: bool
    resized: tuple[int, int]
    crop: tuple[int, int, int, int]
    output: tuple[int, int]

    def apply(self, sample: Sample, name: str = "image") -> Sample:
        """The image and boxes after the geometry; boxes without area inside the crop are left out, with their labels.

        Boxes are computed in float32, as the published code does. A label map goes the way of the image, by the nearest
        pixel, and so do masks; as published, one that the crop leaves nothing of stays with its box.

        Raises:
            DataError: the image is not of the size that the geometry was drawn for.
        """
        height, width = sample.image.shape[:2]
        if (height, width) != self.source:
            listed = f"listed as {self.source[1]}x{self.source[0]}"
            raise DataError(f"{name} is {width}x{height} pixels, but {listed}; correct its size in the annotations")
        image, boxes, labels = sample.image, sample.boxes.astype(np.float32), sample.labels
        kept = np.ones(len(boxes), bool)
        if self.flip:
            image = cv2.flip(image, 1)
            boxes = boxes[:, [2, 1, 0, 3]] * _corners(-1, 1) + _corners(width, 0)
        image, boxes = _resize(image, boxes, self.resized)
        top, left, height, width = self.crop
        if (height, width) != self.resized:
            image = image[top : top + height, left : left + width]
            boxes = (boxes - _corners(left, top)).clip(0, _corners(width, height))
            kept = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
            boxes, labels = boxes[kept], labels[kept]
        image, boxes = _resize(image, boxes, self.output)
        label_map = None if sample.label_map is None else self._map(sample.label_map)
        if sample.masks is None:
            return Sample(image, boxes, labels, label_map)
        from vitjax.data.masks import moved, take  # which few data need

        return Sample(image, boxes, labels, label_map, moved(take(sample.masks, kept), self))

    def _map(self, labels: UInt8[np.ndarray, "height width"]) -> UInt8[np.ndarray, "out_h out_w"]:
        top, left, height, width = self.crop
        labels = resize_labels(cv2.flip(labels, 1) if self.flip else labels, self.resized)
        return resize_labels(labels[top : top + height, left : left + width], self.output)


@dataclass(frozen=True)
class Geometries:
    """The geometry of many images as arrays; `geometries[i]` is that of image i."""

    source: Int[np.ndarray, "images 2"]
    flip: Bool[np.ndarray, " images"]
    resized: Int[np.ndarray, "images 2"]
    crop: Int[np.ndarray, "images 4"]
    output: Int[np.ndarray, "images 2"]

    def __len__(self) -> int:
        """The number of images."""
        return len(self.flip)

    def __getitem__(self, image: int) -> Geometry:
        """The geometry of one image."""
        source, resized, output = (
            (int(a[image, 0]), int(a[image, 1])) for a in (self.source, self.resized, self.output)
        )
        top, left, height, width = self.crop[image].tolist()
        return Geometry(source, bool(self.flip[image]), resized, (top, left, height, width), output)

    def take(self, images: Int[np.ndarray, " chosen"]) -> "Geometries":
        """The geometries of the chosen images, in the order of choice."""
        return Geometries(*(a[images] for a in (self.source, self.flip, self.resized, self.crop, self.output)))


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
        return Geometries(sizes, np.zeros(len(sizes), bool), sizes, _whole(sizes), output)


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

    def __post_init__(self) -> None:
        """Refuses probabilities outside [0, 1] and sizes that no image can have."""
        for name, value in {"flip": self.flip, "crop": self.crop}.items():
            if not 0.0 <= value <= 1.0:
                raise FieldError(f"Augmentation.{name} is a probability in [0, 1], got {value}")
        sides = {"sizes": self.sizes, "crop_sizes": self.crop_sizes, "crop_range": self.crop_range}
        for name, values in sides.items():
            for value in values:
                require_sides("Augmentation", **{name: value})
        require_sides("Augmentation", max_side=self.max_side)
        if self.crop_range[0] > self.crop_range[1]:
            raise FieldError(f"Augmentation.crop_range is (smallest, largest) side, got {self.crop_range}")


def draw(augmentation: Augmentation, rng: np.random.Generator, sizes: Int[np.ndarray, "images 2"]) -> Geometries:
    """A random geometry for each image, from nothing but the images' (height, width).

    Image i takes the i-th row of the random numbers, so its geometry does not depend on the images after it.
    """
    flip, branch, first, tall, wide, down, right, last = rng.random((len(sizes), 8)).T
    sizes = sizes.astype(np.int32)
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
    return Geometries(sizes, flip < augmentation.flip, resized, crop.astype(np.int32), output.astype(np.int32))


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


def resize_image(
    image: UInt8[np.ndarray, "height width 3"], size: tuple[int, int]
) -> UInt8[np.ndarray, "out_h out_w 3"]:
    """The image at (height, width), antialiased bilinear as Pillow does it, to within 1 of 255.

    Without shrinking there is nothing to antialias, and OpenCV gives the same four times faster.
    """
    height, width = size
    if image.shape[:2] == (height, width):
        return image
    if height >= image.shape[0] and width >= image.shape[1]:
        return cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))


def resize_labels(labels: UInt8[np.ndarray, "height width"], size: tuple[int, int]) -> UInt8[np.ndarray, "out_h out_w"]:
    """A label map at (height, width): every pixel takes the label of the one whose centre is nearest to its own."""
    if labels.shape == size:
        return labels
    return cv2.resize(labels, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT)


def _resize(
    image: UInt8[np.ndarray, "height width 3"], boxes: Float[np.ndarray, "objects 4"], size: tuple[int, int]
) -> tuple[UInt8[np.ndarray, "out_h out_w 3"], Float[np.ndarray, "objects 4"]]:
    down, across = size[0] / image.shape[0], size[1] / image.shape[1]
    return resize_image(image, size), boxes * _corners(across, down)


def _corners(x: int | float, y: int | float) -> Float[np.ndarray, "4"]:
    return np.array([x, y, x, y], np.float32)


def _whole(sizes: Int[np.ndarray, "images 2"]) -> Int[np.ndarray, "images 4"]:
    return np.concatenate([np.zeros_like(sizes), sizes], 1)


def _pick(
    uniform: Float[np.ndarray, "*images"], choices: int | Int[np.ndarray, "*images"]
) -> Int[np.ndarray, "*images"]:
    return (uniform * choices).astype(np.int64)
