"""Normalisation layers that know about padding or do not learn."""

import flax.linen as nn
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Bool, Float


class FrozenBatchNorm(nn.Module):
    """Batch norm with fixed statistics and fixed affine: its four arrays live in the collection `frozen`.

    Source: DETR, section A.4 (batch norm of the backbone is frozen).
    """

    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x: Float[Array, "*batch channels"]) -> Float[Array, "*batch channels"]:
        """`x` normalised by the stored statistics, in the dtype of `x`."""
        shape = (x.shape[-1],)
        scale = self.variable("frozen", "scale", jnp.ones, shape).value
        bias = self.variable("frozen", "bias", jnp.zeros, shape).value
        mean = self.variable("frozen", "mean", jnp.zeros, shape).value
        var = self.variable("frozen", "var", jnp.ones, shape).value
        factor = scale * lax.rsqrt(var + self.epsilon)
        return x * factor.astype(x.dtype) + (bias - mean * factor).astype(x.dtype)


class MaskedGroupNorm(nn.Module):
    """Group norm whose statistics are taken over valid pixels only, in float32 (Wu and He 2018)."""

    groups: int = 32
    epsilon: float = 1e-5

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch h w channels"], valid: Bool[Array, "batch h w"]
    ) -> Float[Array, "batch h w channels"]:
        """`x` with zero mean and unit variance per image and group over its valid pixels, scaled and shifted."""
        channels = x.shape[-1]
        if channels % self.groups:
            raise ValueError(f"group norm needs channels divisible by groups={self.groups}; got {channels} channels.")
        scale = self.param("scale", nn.initializers.ones, (channels,))
        bias = self.param("bias", nn.initializers.zeros, (channels,))
        grouped = x.astype(jnp.float32).reshape(*x.shape[:3], self.groups, -1)
        where = valid[..., None, None]
        mean = grouped.mean((1, 2, 4), where=where, keepdims=True)
        var = grouped.var((1, 2, 4), where=where, keepdims=True)
        normalized = ((grouped - mean) * lax.rsqrt(var + self.epsilon)).reshape(x.shape)
        return (normalized * scale + bias).astype(x.dtype)
