"""Bilinear resizing of maps in the two conventions that torch has."""

import jax.numpy as jnp
from jax import Array
from jaxtyping import Float


def resize_bilinear(
    x: Float[Array, "batch h w channels"], size: tuple[int, int], *, align_corners: bool
) -> Float[Array, "batch height width channels"]:
    """`x` at (height, width) of `size`, without antialiasing, in the dtype of `x`.

    With `align_corners` the centres of the corner pixels stay where they are, else the outer edges of the corner pixels
    do, and what lies beyond the outermost centres takes their value.
    """
    for axis, length in zip((1, 2), size, strict=True):
        x = _resized(x, axis, length, align_corners=align_corners)
    return x


def _resized(x: Array, axis: int, length: int, *, align_corners: bool) -> Array:
    given = x.shape[axis]
    if given == length:
        return x
    place = jnp.arange(length, dtype=jnp.float32)
    if align_corners:
        place = place * ((given - 1) / max(length - 1, 1))
    else:
        place = jnp.maximum((place + 0.5) * (given / length) - 0.5, 0)
    low = jnp.minimum(place.astype(jnp.int32), given - 1)
    high = jnp.minimum(low + 1, given - 1)
    share = (place - low).astype(x.dtype).reshape(-1, *(1 for _ in range(x.ndim - axis - 1)))
    return jnp.take(x, low, axis) * (1 - share) + jnp.take(x, high, axis) * share
