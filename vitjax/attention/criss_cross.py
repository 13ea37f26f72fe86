"""Criss-cross attention: every pixel looks along its column and its row, twice, and so sees the whole map.

Source: Huang et al. 2019 (CCNet), section 3.2 (reference: speedinghzl/CCNet @ 1fae6c6, the form in plain torch).
"""

from typing import ClassVar, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from vitjax.attention.linear import linear
from vitjax.errors import FieldError
from vitjax.ops.convolution import wide_einsum
from vitjax.ops.masks import Map, Valid, clear


def criss_cross(
    query: Float[Array, "batch h w c"],
    key: Float[Array, "batch h w c"],
    value: Float[Array, "batch h w v"],
    valid: Valid | None = None,
) -> tuple[Float[Array, "batch h w v"], Float[Array, "batch h w entries"]]:
    """Mixtures of the values in each pixel's column and row, and their h + w weights, both in float32.

    One softmax goes over the column, then the row. The pixel itself lies in both, and is masked in the column.
    """
    height = query.shape[1]
    column = wide_einsum("bijc,bkjc->bijk", query, key)
    row = wide_einsum("bijc,bikc->bijk", query, key)
    lowest = jnp.finfo(jnp.float32).min
    other = ~jnp.eye(height, dtype=bool)[None, :, None]
    if valid is not None:
        other = other & valid.swapaxes(1, 2)[:, None]
        row = jnp.where(valid[:, :, None], row, lowest)
    weights = jax.nn.softmax(jnp.concatenate([jnp.where(other, column, lowest), row], axis=-1))
    in_column, in_row = jnp.split(weights.astype(value.dtype), [height], axis=-1)
    mixed = wide_einsum("bijk,bkjc->bijc", in_column, value)
    mixed += wide_einsum("bijk,bikc->bijc", in_row, value)
    return mixed, weights


class CrissCrossAttention(nn.Module):
    """x + gamma * (sum over the pixel's column and row of softmax(q . k) v), applied `passes` times with one set of
    weights; the products are not scaled, gamma starts at 0.

    After one pass a pixel has seen its cross, after two passes all of the map. Memory grows with (h + w) per pixel. The
    weights [batch h w h+w], column first, are sown into `intermediates` as "attention", one entry per pass.

    Raises:
        FieldError: there is less than one pass.
    """

    place: ClassVar[str] = "stage"
    starts_as_identity: ClassVar[bool] = True

    passes: int = 2
    """How often the same attention is applied."""
    key_channels: int | None = None
    """Width of queries and keys; an eighth of the map's channels, and at least 1, if None."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """What is computed in; parameters, the softmax and sums over pixels are float32 always."""

    @nn.compact
    def __call__(self, x: Map, valid: Valid | None = None, *, train: bool = False) -> Map:
        """The map with what every pixel has gathered; only pixels on the image are looked at."""
        del train  # it does the same in training
        if self.passes < 1:
            raise FieldError(f"criss-cross attention needs at least one pass; got passes={self.passes}.")
        channels = x.shape[-1]
        width = self.key_channels or max(channels // 8, 1)
        query = linear(width, channels, dtype=self.dtype, name="query")
        key = linear(width, channels, dtype=self.dtype, name="key")
        value = linear(channels, channels, dtype=self.dtype, name="value")
        gamma = self.param("gamma", nn.initializers.zeros, (1,))
        for _ in range(self.passes):
            crossed, weights = criss_cross(query(x), key(x), value(x), valid)
            self.sow("intermediates", "attention", weights)
            x = x + (gamma * crossed).astype(x.dtype)
        return clear(x, valid)
