"""Affine maps of images: where each pixel of a new image lies on a given one, and what is to be read there.

Source: Jaderberg et al. 2015 (spatial transformer networks), sections 3.2 and 3.3.
"""

from typing import Literal

import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float, Int

from vitjax.ops.sampling import deformable_sampling

# What lies at -1 and 1. "corners": the centres of the corner pixels (torch with align_corners). "edges": the outer
# edges of the corner pixels (torch without). "open": pixels are read as with "corners", but a new image's pixel i of n
# lies at -1 + 2 i / n and never reaches 1 (the published code of stn.pytorch), so that the identity shrinks a little.
Convention = Literal["corners", "edges", "open"]


def affine_grid(
    theta: Float[Array, "batch 2 3"],
    size: tuple[int, int],
    *,
    convention: Convention = "corners",
    extents: Int[Array, "batch 2"] | None = None,
) -> Float[Array, "batch height width 2"]:
    """Where the pixels of a new image of `size` (height, width) lie on the given image: (x, y), -1 to 1 across it.

    `theta` maps (x, y, 1) of the new image to (x, y) of the given one, so that a theta that doubles shows twice as much
    at half the size. `extents` are (rows, columns) of each new image where `size` includes padding.
    """
    theta = theta.astype(jnp.promote_types(theta.dtype, jnp.float32))
    rows, columns = _sides(size, extents)
    y = _across(size[0], rows, convention, theta.dtype)[:, :, None, None]
    x = _across(size[1], columns, convention, theta.dtype)[:, None, :, None]
    by_x, by_y, constant = jnp.moveaxis(theta, -1, 0)[:, :, None, None]
    return by_x * x + by_y * y + constant


def sample(
    image: Float[Array, "batch h w channels"],
    grid: Float[Array, "batch height width 2"],
    *,
    convention: Convention = "corners",
    extents: Int[Array, "batch 2"] | None = None,
) -> Float[Array, "batch height width channels"]:
    """The image read at the places of a grid as `affine_grid` gives it, bilinear, in the dtype of the image.

    Corners outside the image count as zero, each by itself. `extents` are (rows, columns) of each given image where its
    map includes padding, which must be zero.
    """
    height, width, channels = image.shape[1:]
    rows, columns = _sides((height, width), extents)
    grid = grid.astype(jnp.promote_types(grid.dtype, jnp.float32))
    x = _location(_pixel(grid[..., 0], columns[..., None], convention), width)
    y = _location(_pixel(grid[..., 1], rows[..., None], convention), height)
    locations = jnp.stack([x, y], -1).reshape(len(image), -1, 1, 1, 1, 2)
    value = image.reshape(len(image), height * width, 1, channels)
    read = deformable_sampling(value, ((height, width),), locations, jnp.ones_like(locations[..., 0]))
    return read.reshape(*grid.shape[:3], channels)


def _sides(size: tuple[int, int], extents: Array | None) -> tuple[Array, Array]:
    """Rows and columns of each image [batch 1], or of all [1 1]."""
    rows, columns = jnp.array(size)[:, None, None] if extents is None else jnp.maximum(extents, 1).T[..., None]
    return rows, columns


def _across(length: int, sides: Array, convention: Convention, dtype: jnp.dtype) -> Array:
    """Where pixels lie between -1 and 1, [batch, length]."""
    place = jnp.arange(length, dtype=dtype)
    if convention == "corners":
        return (2 * place - (sides - 1)) / jnp.maximum(sides - 1, 1)
    if convention == "edges":
        return (2 * place + 1) / sides - 1
    return 2 * place / sides - 1


def _pixel(place: Array, sides: Array, convention: Convention) -> Array:
    """A place between -1 and 1 counted in pixels, whose centres are whole numbers."""
    if convention == "edges":
        return ((place + 1) * sides - 1) / 2
    return (place + 1) * (sides - 1) / 2


def _location(pixel: Array, length: int) -> Array:
    """A place in pixels as a share of the map's side, which the sampler finds again.

    A place on a pixel's centre belongs to the cell on its right, whose slope is its gradient: it must not fall to the
    left by rounding.
    """
    share = (pixel + 0.5) / length
    fixed = lax.stop_gradient(share)
    fallen = fixed * length - 0.5 < lax.stop_gradient(pixel)
    return share + jnp.where(fallen, jnp.nextafter(fixed, jnp.inf) - fixed, 0)
