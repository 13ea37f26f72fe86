"""Normalisation layers that know about padding."""

import flax.linen as nn
import jax.numpy as jnp
from jax import lax

from vitjax.errors import FieldError
from vitjax.ops.masks import Map, Valid


class MaskedBatchNorm(nn.Module):
    """Batch norm whose statistics in training are those of the valid pixels of the whole batch, in float32.

    The running mean and variance live in the collection `batch_stats`, which training makes mutable. On a batch that is
    divided among devices the sums under jit go over all of them.

    With `magnitude` the normalised pixels are multiplied with |scale| + epsilon, so that scales of either sign do the
    same and none can vanish; the gradient goes through the size.

    Source: Ioffe and Szegedy 2015; as torch has it, the running variance is the unbiased one. Rota Bulo et al. 2018,
    InPlaceABN, for the size (reference: mapillary/inplace_abn @ b50bfe9).
    """

    momentum: float = 0.1
    """Share of a batch in the running statistics."""
    epsilon: float = 1e-5
    """Added to the variance, and with `magnitude` to the size of the scale."""
    start: float = 1.0
    """What every scale is before training."""
    magnitude: bool = False
    """Multiply with |scale| + epsilon in place of scale."""

    @nn.compact
    def __call__(self, x: Map, valid: Valid, *, train: bool) -> Map:
        """`x` normalised by the batch in training and by the running statistics else, scaled and shifted."""
        shape = (x.shape[-1],)
        scale = self.param("scale", nn.initializers.constant(self.start), shape)
        scale = jnp.abs(scale) + self.epsilon if self.magnitude else scale
        bias = self.param("bias", nn.initializers.zeros, shape)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, shape)
        running_var = self.variable("batch_stats", "var", jnp.ones, shape)
        mean, var = running_mean.value, running_var.value
        wide = x.astype(jnp.float32)
        if train:
            count = jnp.maximum(valid.sum(), 1)
            mean = wide.sum((0, 1, 2), where=valid[..., None]) / count
            var = jnp.square(wide - mean).sum((0, 1, 2), where=valid[..., None]) / count
            if not self.is_initializing():
                unbiased = var * count / jnp.maximum(count - 1, 1)
                running_mean.value += self.momentum * (mean - running_mean.value)
                running_var.value += self.momentum * (unbiased - running_var.value)
        return ((wide - mean) * (scale * lax.rsqrt(var + self.epsilon)) + bias).astype(x.dtype)


class MaskedGroupNorm(nn.Module):
    """Group norm whose statistics are taken over valid pixels only, in float32 (Wu and He 2018)."""

    groups: int = 32
    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x: Map, valid: Valid) -> Map:
        """`x` with zero mean and unit variance per image and group over its valid pixels, scaled and shifted."""
        channels = x.shape[-1]
        if channels % self.groups:
            raise FieldError(f"group norm needs channels divisible by groups={self.groups}; got {channels} channels.")
        scale = self.param("scale", nn.initializers.ones, (channels,))
        bias = self.param("bias", nn.initializers.zeros, (channels,))
        grouped = x.astype(jnp.float32).reshape(*x.shape[:3], self.groups, -1)
        where = valid[..., None, None]
        mean = grouped.mean((1, 2, 4), where=where, keepdims=True)
        var = grouped.var((1, 2, 4), where=where, keepdims=True)
        normalized = ((grouped - mean) * lax.rsqrt(var + self.epsilon)).reshape(x.shape)
        return (normalized * scale + bias).astype(x.dtype)
