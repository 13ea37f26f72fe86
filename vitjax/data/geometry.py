"""What happens to one image on its way into a batch, with everything random drawn: to its pixels, boxes and labels."""

from dataclasses import dataclass, fields, replace
from typing import Any

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from PIL import Image

from vitjax.data.errors import DataError
from vitjax.data.source import NO_LABEL, Sample

FILL = (124, 116, 104)
"""What stands beside an image on its canvas: the mean colour of ImageNet, nearly 0 once the pixels are normalised."""

_QUARTERS = (cv2.ROTATE_90_COUNTERCLOCKWISE, cv2.ROTATE_180, cv2.ROTATE_90_CLOCKWISE)


@dataclass(frozen=True)
class Geometry:
    """What happens to one image: mirror, upside down, turn, resize, crop inside what is resized, resize to the output.

    Sizes are (height, width), the crop is (top, left, height, width), all in pixels. An image that is not cropped is
    only resized once: `resized` equals `source`, turned, and the crop is the whole of it. With a `place` the crop is
    put there, (top, left), on a canvas of the output's size, and of a box at least `visible` of its area must be left.
    `turns` are quarters, counterclockwise.
    """

    source: tuple[int, int]
    flip: bool
    resized: tuple[int, int]
    crop: tuple[int, int, int, int]
    output: tuple[int, int]
    vertical_flip: bool = False
    turns: int = 0
    place: tuple[int, int] | None = None
    visible: float = 0.0

    def apply(self, sample: Sample, name: str = "image") -> Sample:
        """The image and boxes after the geometry; boxes without area inside the crop are left out, with their labels.

        Boxes are computed in float32, as the published code does. A label map goes the way of the image, by the nearest
        pixel, and so do masks; as published, one that the crop leaves nothing of stays with its box. On a canvas a box
        stays if `visible` of its area and at least a pixel of both sides are left.

        Raises:
            DataError: the image is not of the size that the geometry was drawn for.
        """
        height, width = sample.image.shape[:2]
        if (height, width) != self.source:
            listed = f"listed as {self.source[1]}x{self.source[0]}"
            raise DataError(f"{name} is {width}x{height} pixels, but {listed}; correct its size in the annotations")
        boxes = self._turned_boxes(sample.boxes.astype(np.float32))
        image, boxes = _resize(self._turned(sample.image), boxes, self.resized)
        top, left, height, width = self.crop
        whole, left_in = boxes, np.arange(len(boxes))
        if (height, width) != self.resized:
            image = image[top : top + height, left : left + width]
            boxes = (boxes - _corners(left, top)).clip(0, _corners(width, height))
            kept = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
            boxes, left_in, whole = boxes[kept], left_in[kept], whole[kept]
        if self.place is None:
            image, boxes = _resize(image, boxes, self.output)
        else:
            kept = _is_seen(boxes, whole, self.visible)
            boxes, left_in = boxes[kept] + _corners(self.place[1], self.place[0]), left_in[kept]
            image = self._on_canvas(image, FILL)
        label_map = None if sample.label_map is None else self._map(sample.label_map)
        without = Sample(image, boxes, sample.labels[left_in], label_map)
        if sample.masks is None:
            return without
        from vitjax.data.masks import moved, take  # which few data need

        kept = np.isin(np.arange(len(sample.boxes)), left_in)
        return replace(without, masks=moved(take(sample.masks, kept), self))

    def _map(self, labels: UInt8[np.ndarray, "height width"]) -> UInt8[np.ndarray, "out_h out_w"]:
        top, left, height, width = self.crop
        labels = resize_labels(self._turned(labels), self.resized)[top : top + height, left : left + width]
        return resize_labels(labels, self.output) if self.place is None else self._on_canvas(labels, NO_LABEL)

    def _turned(self, pixels: UInt8[np.ndarray, "height width *rest"]) -> UInt8[np.ndarray, "out_h out_w *rest"]:
        if self.flip or self.vertical_flip:
            pixels = cv2.flip(pixels, -1 if self.flip and self.vertical_flip else int(self.flip))
        return cv2.rotate(pixels, _QUARTERS[self.turns - 1]) if self.turns else pixels

    def _turned_boxes(self, boxes: Float[np.ndarray, "objects 4"]) -> Float[np.ndarray, "objects 4"]:
        height, width = self.source
        if self.flip:
            boxes = boxes[:, [2, 1, 0, 3]] * _corners(-1, 1) + _corners(width, 0)
        if self.vertical_flip:
            boxes = boxes[:, [0, 3, 2, 1]] * _corners(1, -1) + _corners(0, height)
        for turn in range(self.turns):
            boxes = boxes[:, [1, 2, 3, 0]] * _corners(1, -1) + _corners(0, height if turn % 2 else width)
        return boxes

    def _on_canvas(
        self, pixels: UInt8[np.ndarray, "height width *rest"], fill: Any
    ) -> UInt8[np.ndarray, "out_h out_w *rest"]:
        (height, width), (top, left) = pixels.shape[:2], self.place or (0, 0)
        if (height, width) == self.output:
            return pixels
        canvas = np.full((*self.output, *pixels.shape[2:]), fill, np.uint8)
        canvas[top : top + height, left : left + width] = pixels
        return canvas


@dataclass(frozen=True)
class Geometries:
    """The geometry of many images as arrays; `geometries[i]` is that of image i, whose `place` is -1 where it has none.

    Where `mosaic` is true the image is to be a part of four; its output is the size of the canvas.
    """

    source: Int[np.ndarray, "images 2"]
    flip: Bool[np.ndarray, " images"]
    vertical_flip: Bool[np.ndarray, " images"]
    turns: Int[np.ndarray, " images"]
    resized: Int[np.ndarray, "images 2"]
    crop: Int[np.ndarray, "images 4"]
    output: Int[np.ndarray, "images 2"]
    place: Int[np.ndarray, "images 2"]
    visible: Float[np.ndarray, " images"]
    mosaic: Bool[np.ndarray, " images"]

    def __len__(self) -> int:
        """The number of images."""
        return len(self.flip)

    def __getitem__(self, image: int) -> Geometry:
        """The geometry of one image."""
        source, resized, output, place = (
            (int(a[image, 0]), int(a[image, 1])) for a in (self.source, self.resized, self.output, self.place)
        )
        top, left, height, width = self.crop[image].tolist()
        flips = bool(self.vertical_flip[image]), int(self.turns[image])
        ends = None if place[0] < 0 else place, float(self.visible[image])
        return Geometry(source, bool(self.flip[image]), resized, (top, left, height, width), output, *flips, *ends)

    def take(self, images: Int[np.ndarray, " chosen"]) -> "Geometries":
        """The geometries of the chosen images, in the order of choice."""
        return Geometries(*(getattr(self, each.name)[images] for each in fields(self)))


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


def _is_seen(
    boxes: Float[np.ndarray, "objects 4"], whole: Float[np.ndarray, "objects 4"], least: float
) -> Bool[np.ndarray, " objects"]:
    """Whether a share of the whole box and a pixel of both sides are left of each box."""
    (wide, high), (all_wide, all_high) = ((each[:, 2:] - each[:, :2]).T for each in (boxes, whole))
    return (wide * high >= least * all_wide * all_high) & (wide >= 1) & (high >= 1)


def _corners(x: int | float, y: int | float) -> Float[np.ndarray, "4"]:
    return np.array([x, y, x, y], np.float32)
