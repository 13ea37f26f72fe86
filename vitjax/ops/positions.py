"""Sine position embeddings of two-dimensional maps. Source: DETR, appendix A.4; Vaswani et al. 2017, section 3.5."""

import math

import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Bool, Float

from vitjax.errors import FieldError


def sine(
    valid: Bool[Array, "batch height width"],
    channels: int,
    *,
    temperature: float = 10000.0,
    normalize: bool = True,
    scale: float = 2 * math.pi,
    offset: float = 0.0,
) -> Float[Array, "batch height width {channels}"]:
    """Row embedding in the first half of the channels, column embedding in the second, sine and cosine interleaved.

    Positions count valid pixels only. With `normalize` they run up to `scale` at the last one, after `offset` is
    added (0 in DETR, -0.5 in Deformable DETR).
    """
    if channels % 4:
        raise FieldError(f"sine positions need channels divisible by 4; got channels={channels}.")
    rows = jnp.cumsum(valid, axis=1, dtype=jnp.float32)
    columns = jnp.cumsum(valid, axis=2, dtype=jnp.float32)
    if normalize:
        rows = (rows + offset) / (rows[:, -1:, :] + 1e-6) * scale
        columns = (columns + offset) / (columns[:, :, -1:] + 1e-6) * scale
    halves = [_interleave(position, channels // 2, temperature) for position in (rows, columns)]
    return jnp.concatenate(halves, axis=-1)


def sine_of_boxes(
    boxes: Float[Array, "*batch 4"], channels: int, *, temperature: float = 10000.0, scale: float = 2 * math.pi
) -> Float[Array, "*batch 4*{channels}"]:
    """The four numbers in [0, 1] of each box, one after the other, as `channels` sines and cosines each.

    Source: Deformable DETR, proposals of the two-stage variant.
    """
    return _interleave(boxes * scale, channels, temperature).reshape(*boxes.shape[:-1], -1)


def _interleave(position: Array, channels: int, temperature: float) -> Array:
    """Sine and cosine by turns, at wavelengths from 2 pi to 2 pi `temperature`, on a new last axis."""
    wavelength = np.float32(temperature) ** (2 * np.arange(channels // 2, dtype=np.float32) / np.float32(channels))
    angle = position[..., None] / wavelength
    return jnp.stack([jnp.sin(angle), jnp.cos(angle)], axis=-1).reshape(*position.shape, channels)
