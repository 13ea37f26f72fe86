"""Validity masks at coarser resolutions."""

import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Bool, Float

Map = Float[Array, "batch h w channels"]
Valid = Bool[Array, "batch h w"]
"""The pixels of a map that lie on the image; the others are padding."""


def clear(
    x: Float[Array, "batch *space channels"], valid: Bool[Array, " batch *space"] | None
) -> Float[Array, "batch *space channels"]:
    """`x` with zeros on padding, which is what a convolution sees beyond the rim of an image that is alone.

    Without `valid` there is no padding.
    """
    return x if valid is None else jnp.where(valid[..., None], x, 0)


def nearest_rows(size: int, resized: int) -> np.ndarray:
    """Source row of each resized row by the floor rule, with the scale rounded to float32 as the published code has it.

    `jax.image.resize(method="nearest")` samples at cell centres and loses a column of features on the rim.
    """
    scale = np.float32(size) / np.float32(resized)
    return np.minimum(np.floor(np.arange(resized, dtype=np.float32) * scale).astype(np.int32), size - 1)


def resize_valid(valid: Valid, height: int, width: int) -> Bool[Array, "batch {height} {width}"]:
    """A validity mask brought to another size by the floor rule (reference: DETR, backbone mask interpolation)."""
    return valid[:, nearest_rows(valid.shape[1], height)][:, :, nearest_rows(valid.shape[2], width)]
