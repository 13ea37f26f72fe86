"""Masks as they come to the device, eight objects to a byte, and some of them unpacked."""

import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Int, UInt8


def unpack_masks(
    planes: UInt8[Array, "batch height width planes"], objects: Int[Array, "batch chosen"]
) -> Bool[Array, "batch chosen height width"]:
    """The masks of chosen objects of every image; of `Batch.masks` no others need ever be unpacked.

    An object that is not among the targets has an empty mask, as padding has.
    """
    chosen = jnp.take_along_axis(planes, (objects // 8)[:, None, None], axis=-1, mode="clip")
    bits = (chosen >> (objects % 8).astype(jnp.uint8)[:, None, None]) & 1
    return jnp.moveaxis(bits.astype(bool), -1, 1)
