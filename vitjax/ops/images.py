"""Raw bytes to what a network sees."""

import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Bool, Float, Int, UInt8

from vitjax.structs import Batch, Images

# Channel means and deviations of ImageNet in RGB, as torchvision publishes them.
MEAN = np.array([0.485, 0.456, 0.406], np.float32)
DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)


def valid_pixels(sizes: Int[Array, "batch 2"], height: int, width: int) -> Bool[Array, "batch {height} {width}"]:
    """True on the top left `sizes` (height, width) of each image."""
    rows = jnp.arange(height) < sizes[:, :1]
    columns = jnp.arange(width) < sizes[:, 1:]
    return rows[:, :, None] & columns[:, None, :]


def normalize(
    pixels: UInt8[Array, "batch height width 3"], valid: Bool[Array, "batch height width"]
) -> Float[Array, "batch height width 3"]:
    """Pixels less ImageNet's mean, over its deviation; zero where not valid, as the published code pads."""
    return jnp.where(valid[..., None], (pixels.astype(jnp.float32) / 255 - MEAN) / DEVIATION, 0)


def framed_images(pixels: UInt8[Array, "batch height width 3"], sizes: Int[Array, "batch 2"]) -> Images:
    """Images of these (height, width), each top left in its frame, as a model takes them: normalised, zero beyond.

    By whole rows, since three colours as the last axis fill no vector of a CPU, and take 1.6 times as long there.
    """
    _, height, width, colours = pixels.shape
    rows = pixels.reshape(-1, height, width * colours)
    mean, deviation = (jnp.broadcast_to(each, (width, colours)).ravel() for each in (MEAN, DEVIATION))
    inside = valid_pixels(sizes * np.array([1, colours], np.int32), height, width * colours)
    normal = jnp.where(inside, (rows.astype(jnp.float32) / 255 - mean) / deviation, 0)
    return Images(normal.reshape(pixels.shape), valid_pixels(sizes, height, width))


def images_of(batch: Batch) -> Images:
    """The batch as a model takes it."""
    return framed_images(batch.pixels, batch.sizes)
