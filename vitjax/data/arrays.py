"""Arrays to RGB pixels, whatever numbers they are of."""

import numpy as np
from jaxtyping import UInt8

from vitjax.data.errors import DataError

ARRAYS = (
    "An image is a path, a PIL image, or an array [height, width, 3] in RGB or [height, width], of bytes, 16-bit "
    "numbers, or floats from 0 to 1 or to 255"
)


def as_rgb(pixels: np.ndarray, name: str = "the image") -> UInt8[np.ndarray, "height width 3"]:
    """8-bit RGB of an array [height, width], or with 1 to 4 channels of which a second or fourth is transparency.

    Unsigned 16-bit numbers keep their upper eight bits. Other whole numbers are bytes where none is above 255, and
    16-bit where none is above 65,535. Floats are shares of white where none is above 1, and are then multiplied by 255
    and rounded; where one is above 2 they are taken as whole numbers are, rounded. Between the two nobody knows which
    they are: shares that a filter brought above 1 would be black. True is white.

    Raises:
        DataError: the shape is no image's, or a number is none of these.
    """
    if pixels.dtype.name == "bfloat16":  # JAX's, which NumPy knows by name only
        pixels = pixels.astype(np.float32)
    shape, kind = pixels.shape, pixels.dtype.kind
    if not (len(shape) == 2 or (len(shape) == 3 and 1 <= shape[2] <= 4)) or kind not in "buif" or 0 in shape:
        raise DataError(f"{name} is an array of {pixels.dtype} and shape {shape}. {ARRAYS}.")
    if len(shape) == 2 or shape[2] < 3:
        pixels = np.repeat(pixels.reshape(*shape[:2], -1)[..., :1], 3, axis=2)
    return _eight_bits(np.ascontiguousarray(pixels[..., :3]), name)


def _eight_bits(pixels: np.ndarray, name: str) -> UInt8[np.ndarray, "height width 3"]:
    if pixels.dtype == np.uint8:
        return pixels
    if pixels.dtype.kind == "u" and pixels.dtype.itemsize == 2:
        return (pixels >> 8).astype(np.uint8)
    low, high = float(pixels.min()), float(pixels.max())
    if not (low >= 0 and high <= 65535):  # nor where one is NaN
        raise DataError(f"{name} has pixels from {low:g} to {high:g}. {ARRAYS}.")
    if pixels.dtype.kind == "f" and 1 < high <= 2:
        raise DataError(f"{name} has floats from {low:g} to {high:g}, neither 0 to 1 nor 0 to 255. Clip or scale them.")
    if pixels.dtype.kind == "b" or (pixels.dtype.kind == "f" and high <= 1):
        pixels = pixels.astype(np.float64) * 255
    pixels = np.rint(pixels).astype(np.uint16)
    return (pixels if high <= 255 else pixels >> 8).astype(np.uint8)
