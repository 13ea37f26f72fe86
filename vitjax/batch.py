"""What the host hands to the device: NumPy arrays until they are placed, JAX arrays from then on; this file is no JAX.

`vitjax.structs` makes pytrees of both.
"""

from dataclasses import dataclass
from typing import Any

from jaxtyping import Bool, Float, Int, UInt8

NO_LABEL = 255
"""What a label map has where the class of a pixel is not known: it is neither trained on nor scored."""


@dataclass(frozen=True, eq=False)
class Targets:
    """What is to be found: boxes cxcywh in [0, 1] of the unpadded image, labels in [0, classes)."""

    boxes: Float[Any, "batch objects 4"]
    labels: Int[Any, "batch objects"]
    valid: Bool[Any, "batch objects"]


@dataclass(frozen=True, eq=False)
class Batch:
    """What a step is given: the same shapes for every step of one bucket.

    `pixels` are raw RGB bytes, zero where padded; `sizes` and `original_sizes` are (height, width) of the image inside
    the bucket and as it came from disk. `records` is the row of the data source, -1 on rows that only fill the batch
    up; `broken` is the row that could not be read and was left out or replaced, else -1. `label_maps` is the class of
    every pixel where the source has such, NO_LABEL where it is not known and on padding. `masks` is, where the source
    has such, which pixels the objects of `targets` cover: bit i % 8 of plane i // 8 is object i, zero on padding.
    """

    pixels: UInt8[Any, "batch height width 3"]
    sizes: Int[Any, "batch 2"]
    targets: Targets
    records: Int[Any, " batch"]
    original_sizes: Int[Any, "batch 2"]
    broken: Int[Any, " batch"]
    label_maps: UInt8[Any, "batch height width"] | None = None
    masks: UInt8[Any, "batch height width planes"] | None = None
