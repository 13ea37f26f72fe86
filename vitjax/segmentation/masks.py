"""From mask logits to the pixels of objects, on the host: every photograph has a size of its own, as XLA dislikes.

Source: reference DETR, `PostProcessSegm`.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from vitjax.ops.masks import nearest_rows

Size = tuple[int, int]
"""Height and width."""


@dataclasses.dataclass(frozen=True)
class Masks:
    """The masks of an image's detections, made on demand: `masks[i]` tells which pixels the i-th object covers.

    `logits` cover the image without padding; `seen` is the size at which the model saw it, `size` its own.
    """

    logits: Float[np.ndarray, "detections h w"]
    seen: Size
    size: Size
    threshold: float = 0.5

    def __len__(self) -> int:
        """The number of masks."""
        return len(self.logits)

    def __getitem__(self, detection: int) -> Bool[np.ndarray, "height width"]:
        """The pixels of the image, of its own size, that belong to a detection."""
        return object_masks(self.logits[detection][None], self.seen, self.seen, self.size, self.threshold)[0]

    def take(self, rows: Int[np.ndarray, " taken"] | Sequence[int]) -> "Masks":
        """The masks of these numbers."""
        return dataclasses.replace(self, logits=self.logits[rows])


def object_masks(
    logits: Float[np.ndarray, "detections h w"], frame: Size, seen: Size, size: Size, threshold: float = 0.5
) -> Bool[np.ndarray, "detections height width"]:
    """The pixels whose probability is above the threshold, in an image of that `size`.

    Logits that cover a padded `frame` are resized to it bilinearly; the part that holds the image, as large as the
    model saw it, is brought to the size by the nearest pixel.
    """
    there = probabilities(resize_maps(logits, frame)) > threshold
    rows, columns = (nearest_rows(old, new) for old, new in zip(seen, size, strict=True))
    return there[:, rows][:, :, columns]


def probabilities(logits: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """The logistic function."""
    with np.errstate(over="ignore"):
        return 1 / (1 + np.exp(-logits))


def resize_maps(maps: Float[np.ndarray, "maps h w"], size: Size) -> Float[np.ndarray, "maps height width"]:
    """What `vitjax.ops.resize.resize_bilinear` gives without aligned corners, of maps one after the other."""
    for axis, length in zip((1, 2), size, strict=True):
        given = maps.shape[axis]
        if given != length:
            place = np.arange(length, dtype=np.float32) + np.float32(0.5)
            place = np.maximum(place * np.float32(given / length) - np.float32(0.5), 0)
            low = np.minimum(place.astype(np.int32), given - 1)
            share = (place - low).astype(maps.dtype).reshape((-1, 1) if axis == 1 else (-1,))
            high = np.minimum(low + 1, given - 1)
            maps = np.take(maps, low, axis) * (1 - share) + np.take(maps, high, axis) * share
    return maps
