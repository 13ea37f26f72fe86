"""Masks of objects on their way to the device: eight to a byte of every pixel, so that they move as an image does."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

if TYPE_CHECKING:
    from vitjax.data.geometry import Geometry

Planes = UInt8[np.ndarray, "height width planes"]
"""Bit i % 8 of plane i // 8, counted from the lowest, tells which pixels object i covers."""


def planes_for(objects: int) -> int:
    """How many planes hold the masks of so many objects."""
    return -(-objects // 8)


def pack(masks: Bool[np.ndarray, "objects height width"]) -> Planes:
    """The planes of masks."""
    return _planes(masks.view(np.uint8), masks.shape[1:])


def unpack(planes: Planes, objects: int) -> Bool[np.ndarray, "{objects} height width"]:
    """The masks in planes."""
    return np.moveaxis(np.unpackbits(planes, axis=-1, count=objects, bitorder="little"), -1, 0).astype(bool)


def pack_owners(owner: Int[np.ndarray, "height width"], objects: int) -> Planes:
    """The planes of masks that do not overlap: every pixel says whose it is, -1 nobody's."""
    table = np.vstack([np.eye(objects, dtype=bool), np.zeros((1, objects), bool)])  # -1 takes the last row
    return np.packbits(table, axis=-1, bitorder="little")[owner]


def take(planes: Planes, kept: Bool[np.ndarray, " objects"]) -> UInt8[np.ndarray, "height width _"]:
    """The planes of the objects that are kept, which close up."""
    if kept.all():
        return planes
    bits = [planes[..., object_ // 8] >> np.uint8(object_ % 8) & np.uint8(1) for object_ in np.flatnonzero(kept)]
    return _planes(bits, planes.shape[:2])


def nearest_places(size: int, resized: int) -> Int[np.ndarray, " {resized}"]:
    """The pixel that each of a resized side takes: torch's nearest, the floor of a scale in float32.

    Source: DETR datasets/transforms.py, resize (`interpolate(masks, mode="nearest")`). Label maps go by pixel centres.
    """
    scale = np.float32(size) / np.float32(resized)
    return np.minimum(np.floor(np.arange(resized, dtype=np.float32) * scale).astype(np.int32), size - 1)


def moved(planes: Planes, geometry: "Geometry") -> UInt8[np.ndarray, "out_h out_w planes"]:
    """The masks after a geometry, at each step by the nearest pixel as published; none is left out.

    The steps only choose pixels, so all of them together choose once.
    """
    planes = planes[:, ::-1] if geometry.flip else planes
    planes = np.rot90(planes[::-1] if geometry.vertical_flip else planes, geometry.turns)
    top, left, height, width = geometry.crop
    rows, columns = (nearest_places(*sides) for sides in zip(planes.shape[:2], geometry.resized, strict=True))
    rows, columns = rows[top : top + height], columns[left : left + width]
    if geometry.place is None:
        rows, columns = (
            rows[nearest_places(height, geometry.output[0])],
            columns[nearest_places(width, geometry.output[1])],
        )
        return planes[rows[:, None], columns]
    canvas = np.zeros((*geometry.output, planes.shape[2]), np.uint8)
    down, across = geometry.place
    canvas[down : down + height, across : across + width] = planes[rows[:, None], columns]
    return canvas


def joined(
    parts: Sequence[tuple[UInt8[np.ndarray, "_ _ _"], int, tuple[slice, slice]]], size: tuple[int, int]
) -> UInt8[np.ndarray, "height width planes"]:
    """The planes of several images, of so many objects each, in their windows of a canvas of (height, width)."""
    masks = np.zeros((sum(objects for _, objects, _ in parts), *size), bool)
    first = 0
    for planes, objects, window in parts:
        masks[first : first + objects, *window] = unpack(planes, objects)
        first += objects
    return pack(masks)


def boxes_of(masks: Bool[np.ndarray, "objects height width"]) -> Float[np.ndarray, "objects 4"]:
    """The boxes around the pixels of masks, xyxy with the whole of the last pixel, as COCO has them; zeros of none.

    The published code leaves the last column and row out, so an object of one pixel has no extent there.
    """
    boxes = np.zeros((len(masks), 4), np.float32)
    for box, mask in zip(boxes, masks, strict=True):
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        if len(rows):
            box[:] = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    return boxes


def _planes(bits: Sequence[np.ndarray] | np.ndarray, size: tuple[int, ...]) -> Planes:
    """The planes of masks of zeros and ones; one at a time, which is much faster than NumPy's packbits."""
    planes = np.zeros((planes_for(len(bits)), *size), np.uint8)
    for place, mask in enumerate(bits):
        planes[place // 8] |= mask << np.uint8(place % 8)
    return np.ascontiguousarray(np.moveaxis(planes, 0, -1))
