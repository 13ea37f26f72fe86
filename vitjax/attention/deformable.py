"""Multi-scale deformable attention. Source: Zhu et al. 2021 (Deformable DETR), section 4.1 and appendix A.2."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Bool, Float

from vitjax.errors import FieldError
from vitjax.layers.linear import Dense
from vitjax.ops.convolution import last_axis_product
from vitjax.ops.sampling import Shapes, sampling_at


class DeformableAttention(nn.Module):
    """Each query looks at a few points around its reference, on every level, and weighs them by itself.

    Offsets, locations and weights are float32 whatever `dtype` is: a location in bfloat16 is off by several pixels.
    Their gradients are products of `dtype`. `locations` and `weights` are sown into `intermediates`.
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
        product = partial(_product, self.dtype or jnp.float32)
        x, y = _Offsets(grid[2:], product, name="sampling_offsets")(query)
        zeros = nn.initializers.zeros
        dense = partial(nn.Dense, dtype=jnp.float32, dot_general=product, kernel_init=zeros)
        scores = dense(math.prod(grid[2:]), name="attention_weights")(query)
        weights = jax.nn.softmax(scores.reshape(*grid[:3], -1)).reshape(grid)

        x, y = _locations(reference.astype(jnp.float32), x.reshape(grid), y.reshape(grid), shapes)
        self.sow("intermediates", "locations", jnp.stack([x, y], -1))
        self.sow("intermediates", "weights", weights)
        gathered = sampling_at(values, shapes, x, y, weights).reshape(batch, queries, channels)
        return Dense(channels, dtype=self.dtype, kernel_init=xavier, name="out")(gathered)


class _Offsets(nn.Module):
    """A linear layer to x and y of every head, level and point, which it gives apart.

    In the kernel they take turns, as published; one product would have to be divided again: a copy each way.
    """

    grid: tuple[int, int, int]
    product: Callable[[Array, Array], Array]

    @nn.compact
    def __call__(self, query: Float[Array, "batch queries channels"]) -> list[Float[Array, "batch queries _"]]:
        """x and y in pixels of the level, or as `DeformableAttention` says, in float32."""
        columns = 2 * math.prod(self.grid)
        kernel = self.param("kernel", nn.initializers.zeros, (query.shape[-1], columns), jnp.float32)
        kernel = jnp.asarray(kernel, jnp.float32)
        heads, levels, points = self.grid
        bias = self.param("bias", partial(_star, heads=heads, levels=levels, points=points), (columns,))
        query = query.astype(jnp.float32)
        return [self.product(query, kernel[:, way::2]) + bias[way::2] for way in (0, 1)]


def _product(dtype: DTypeLike, x: Array, kernel: Array, *_: Any, **__: Any) -> Array:  # as `nn.Dense` calls it
    return _narrow_backward(dtype, x, kernel)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _narrow_backward(dtype: DTypeLike, x: Array, kernel: Array) -> Array:
    """`last_axis_product` in float32, with gradients that are products of what is rounded to `dtype`."""
    return last_axis_product(x, kernel)


def _backward(dtype: DTypeLike, kept: list[Array], cotangent: Array) -> tuple[Array, ...]:
    narrow = jax.vjp(last_axis_product, *kept)[1](cotangent.astype(dtype))
    return tuple(gradient.astype(cotangent.dtype) for gradient in narrow)


_narrow_backward.defvjp(
    lambda dtype, *given: (last_axis_product(*given), [array.astype(dtype) for array in given]), _backward
)


def _locations(reference: Array, x: Array, y: Array, shapes: Shapes) -> list[Array]:
    """x and y of where to sample, each in [0, 1] of its level [batch queries heads levels points], from the offsets."""
    reference, sides = reference[:, :, None, :, None], np.array(shapes, np.float32)[:, ::-1, None]
    if reference.shape[-1] == 2:
        return [reference[..., way] + offset / sides[:, way] for way, offset in enumerate((x, y))]
    boxes = reference[..., 2:] * 0.5
    return [reference[..., way] + offset / x.shape[-1] * boxes[..., way] for way, offset in enumerate((x, y))]


def _star(key: Array, shape: tuple[int, ...], *, heads: int, levels: int, points: int) -> Array:
    """First offsets: each head looks along its own direction, on the rim of a square, one pixel further per point."""
    del key
    angles = np.arange(heads, dtype=np.float32) * np.float32(2 * math.pi / heads)
    directions = np.stack([np.cos(angles), np.sin(angles)], -1)
    directions /= np.abs(directions).max(-1, keepdims=True)
    steps = np.arange(1, points + 1, dtype=np.float32)[:, None]
    star = np.broadcast_to(directions[:, None, None] * steps, (heads, levels, points, 2))
    return jnp.asarray(star.reshape(shape))
