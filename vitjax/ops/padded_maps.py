"""The images of a padded batch inside their map: their size, and resizing and pooling that padding does not change."""

import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float, Int

from vitjax.ops.masks import Map, Valid, clear


def extents(valid: Valid) -> Int[Array, "batch 2"]:
    """Rows and columns of each image inside its map."""
    return jnp.stack([valid.any(2).sum(1), valid.any(1).sum(1)], axis=-1)


def valid_ratio(valid: Valid) -> Float[Array, "batch 2"]:
    """The part (x, y) of each map that is valid, by its first row and column. Source: Deformable DETR."""
    sides = [valid[:, 0].mean(1, dtype=jnp.float32), valid[:, :, 0].mean(1, dtype=jnp.float32)]
    return jnp.stack(sides, axis=-1)


def resize_within(
    x: Map, valid: Valid, wanted: Bool[Array, "batch height width"]
) -> Float[Array, "batch height width channels"]:
    """Each image of `x` at the size that it has in `wanted`, bilinear with its corners aligned, zero on padding.

    Where nothing is padded this is `resize_bilinear` with `align_corners`.
    """
    given, sizes = extents(valid), extents(wanted)
    precise = jnp.promote_types(x.dtype, jnp.float32)
    shares = []
    for side in range(2):
        scale = (given[:, side] - 1) / jnp.maximum(sizes[:, side] - 1, 1).astype(precise)
        place = jnp.arange(wanted.shape[1 + side], dtype=precise) * scale[:, None]
        place = jnp.minimum(place, given[:, side, None] - 1)
        distance = jnp.abs(place[..., None] - jnp.arange(x.shape[1 + side], dtype=precise))
        shares.append(jnp.maximum(1 - distance, 0).astype(x.dtype))
    return clear(_mixed(x, *shares), wanted)


def cell_means(x: Map, valid: Valid, cells: int) -> Float[Array, "batch {cells} {cells} channels"]:
    """The means of `x` over `cells` x `cells` rectangles that cover each image, as adaptive pooling in torch has it."""
    sides = extents(valid)
    cell = jnp.arange(cells)
    shares = []
    for side in range(2):
        length = sides[:, side, None]
        first, end = cell * length // cells, -(-(cell + 1) * length // cells)
        index = jnp.arange(x.shape[1 + side])
        inside = (index >= first[..., None]) & (index < end[..., None])
        shares.append((inside / jnp.maximum(inside.sum(-1, keepdims=True), 1)).astype(x.dtype))
    return _mixed(x, *shares)


def _mixed(x: Array, rows: Array, columns: Array) -> Array:
    """Sums of rows and columns by shares [batch, wanted, given]."""
    return jnp.einsum("bri,bcj,bijk->brck", rows, columns, x, precision="highest").astype(x.dtype)
