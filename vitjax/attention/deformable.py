"""Multi-scale deformable attention. Source: Zhu et al. 2021 (Deformable DETR), section 4.1 and appendix A.2."""

import math
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Bool, Float

from vitjax.errors import FieldError
from vitjax.layers.linear import Dense
from vitjax.ops.sampling import Shapes, deformable_sampling


class DeformableAttention(nn.Module):
    """Each query looks at a few points around its reference, on every level, and weighs them by itself.

    Offsets, locations and weights are float32 whatever `dtype` is: a location in bfloat16 is off by several pixels.
    `locations` and `weights` are sown into `intermediates`.
    """

    heads: int
    levels: int
    points: int
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(
        self,
        query: Float[Array, "batch queries channels"],
        reference: Float[Array, "batch queries levels _"],
        value: Float[Array, "batch tokens channels"],
        valid: Bool[Array, "batch tokens"],
        shapes: Shapes,
    ) -> Float[Array, "batch queries channels"]:
        """What each query gathers from the levels, which lie in a row in `value`.

        `reference` is (x, y) or (x, y, width, height) in [0, 1] of the padded map; offsets count pixels of their level
        around a point, and fractions of half a box around a box.

        Raises:
            FieldError: the channels cannot be divided among the heads, or there are other levels than `levels`.
        """
        batch, queries, channels = query.shape
        if channels % self.heads:
            raise FieldError(f"attention needs channels divisible by heads={self.heads}; got {channels} channels.")
        if len(shapes) != self.levels or reference.shape[2] != self.levels:
            raise FieldError(
                f"attention was made for {self.levels} levels; got {len(shapes)} maps "
                f"and references on {reference.shape[2]} levels."
            )
        xavier = nn.initializers.xavier_uniform()
        values = Dense(channels, dtype=self.dtype, kernel_init=xavier, name="value")(value)
        values = jnp.where(valid[..., None], values, 0).reshape(batch, -1, self.heads, channels // self.heads)

        grid = (batch, queries, self.heads, self.levels, self.points)
        dense = partial(Dense, dtype=jnp.float32, kernel_init=nn.initializers.zeros)
        star = partial(_star, heads=self.heads, levels=self.levels, points=self.points)
        offsets = dense(math.prod(grid[2:]) * 2, bias_init=star, name="sampling_offsets")(query).reshape(*grid, 2)
        scores = dense(math.prod(grid[2:]), name="attention_weights")(query)
        weights = jax.nn.softmax(scores.reshape(*grid[:3], -1)).reshape(grid)

        locations = _locations(reference.astype(jnp.float32), offsets, shapes)
        self.sow("intermediates", "locations", locations)
        self.sow("intermediates", "weights", weights)
        gathered = deformable_sampling(values, shapes, locations, weights).reshape(batch, queries, channels)
        return Dense(channels, dtype=self.dtype, kernel_init=xavier, name="out")(gathered)


def _locations(reference: Array, offsets: Array, shapes: Shapes) -> Array:
    """Where to sample, in [0, 1] of each level: [batch, queries, heads, levels, points, 2]."""
    centre, size = reference[:, :, None, :, None, :2], reference[:, :, None, :, None, 2:]
    if size.shape[-1] == 0:
        return centre + offsets / jnp.array([(width, height) for height, width in shapes], jnp.float32)[:, None]
    return centre + offsets / offsets.shape[-2] * size * 0.5


def _star(key: Array, shape: tuple[int, ...], dtype: DTypeLike, *, heads: int, levels: int, points: int) -> Array:
    """First offsets: each head looks along its own direction, on the rim of a square, one pixel further per point."""
    del key
    angles = np.arange(heads, dtype=np.float32) * np.float32(2 * math.pi / heads)
    directions = np.stack([np.cos(angles), np.sin(angles)], -1)
    directions /= np.abs(directions).max(-1, keepdims=True)
    steps = np.arange(1, points + 1, dtype=np.float32)[:, None]
    star = np.broadcast_to(directions[:, None, None] * steps, (heads, levels, points, 2))
    return jnp.asarray(star.reshape(shape), dtype)
