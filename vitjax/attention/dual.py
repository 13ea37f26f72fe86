"""Dual attention: pixels look at pixels, channels at channels.

Source: Fu et al. 2019 (DANet), sections 3.2 and 3.3 (reference: junfu1115/DANet @ b0a0fa0, `da_att.py`).
"""

from abc import abstractmethod
from typing import ClassVar, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from einops import rearrange

from vitjax.attention.linear import linear
from vitjax.attention.self_attention import mix, pair_scores, softmax_over_keys
from vitjax.ops.masks import Map, Valid, clear


class _Added(nn.Module):
    """Adds its `residual` to a map."""

    place: ClassVar[str] = "stage"
    starts_as_identity: ClassVar[bool] = True

    def __call__(self, x: Map, valid: Valid | None = None, *, train: bool = False) -> Map:
        """The map with what has been gathered; only pixels on the image are looked at."""
        del train  # it does the same in training
        return clear(x + self.residual(x, valid), valid)

    @abstractmethod
    def residual(self, x: Map, valid: Valid | None) -> Map:
        """What is added to `x`."""


class PositionAttention(_Added):
    """x + gamma * softmax(q . k) v over all pixels; the products are not scaled, gamma starts at 0.

    The weights [batch h*w h*w] are sown into `intermediates` as "attention".
    """

    key_channels: int | None = None
    """Width of queries and keys; an eighth of the map's channels, and at least 1, if None."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """What is computed in; parameters, the softmax and sums over pixels are float32 always."""

    @nn.compact
    def residual(self, x: Map, valid: Valid | None) -> Map:
        """What is added to `x`."""
        channels = x.shape[-1]
        width = self.key_channels or max(channels // 8, 1)
        tokens = rearrange(x, "b h w c -> b (h w) c")
        query = linear(width, channels, dtype=self.dtype, name="query")(tokens)
        key = linear(width, channels, dtype=self.dtype, name="key")(tokens)
        value = linear(channels, channels, dtype=self.dtype, name="value")(tokens)
        seen = None if valid is None else rearrange(valid, "b h w -> b (h w)")
        weights = softmax_over_keys(pair_scores(query, key), seen)
        self.sow("intermediates", "attention", weights)
        gamma = self.param("gamma", nn.initializers.zeros, (1,))
        return (gamma * mix(weights, value)).astype(x.dtype).reshape(x.shape)


class ChannelAttention(_Added):
    """x + gamma * softmax(rowmax(E) - E) x with E = x^T x over pixels: a channel gathers those least like itself.

    Nothing is projected, and gamma starts at 0. The weights [batch channels channels] are sown into `intermediates` as
    "channel_attention".
    """

    dtype: Literal["float32", "bfloat16"] = "float32"
    """What is computed in; the parameter, the softmax and sums over pixels are float32 always."""

    @nn.compact
    def residual(self, x: Map, valid: Valid | None) -> Map:
        """What is added to `x`."""
        seen = clear(x, valid).astype(self.dtype)
        energy = jnp.einsum("bhwi,bhwj->bij", seen, seen, preferred_element_type=jnp.float32)
        weights = jax.nn.softmax(-energy, axis=-1)  # adding the row's maximum changes nothing
        self.sow("intermediates", "channel_attention", weights)
        mixed = jnp.einsum("bij,bhwj->bhwi", weights.astype(seen.dtype), seen, preferred_element_type=jnp.float32)
        gamma = self.param("gamma", nn.initializers.zeros, (1,))
        return (gamma * mixed).astype(x.dtype)


class DualAttention(nn.Module):
    """x + what position attention adds + what channel attention adds, each with a gamma of its own that starts at 0.

    The weights of the two are sown into `intermediates` below `position` and `channel`.
    """

    place: ClassVar[str] = "stage"
    starts_as_identity: ClassVar[bool] = True

    key_channels: int | None = None
    """Width of the pixels' queries and keys; an eighth of the map's channels, and at least 1, if None."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """What is computed in; parameters, softmax and sums over pixels are float32 always."""

    @nn.compact
    def __call__(self, x: Map, valid: Valid | None = None, *, train: bool = False) -> Map:
        """The map with what pixels and channels have gathered; only pixels on the image count."""
        del train  # it does the same in training
        y = x + PositionAttention(self.key_channels, self.dtype, name="position").residual(x, valid)
        y = y + ChannelAttention(self.dtype, name="channel").residual(x, valid)
        return clear(y, valid)
