"""Normalisation layers: what does not learn, what is for tokens, and a norm of a kind by its name."""

import math
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import DTypeLike
from jaxtyping import Float

from vitjax.ops.masks import Map, Valid
from vitjax.ops.residuals import after

Norm = Literal["frozen_batch", "batch", "group"]


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


class LayerNorm(nn.Module):
    """Layer norm over channels, as torch has it: `nn.LayerNorm` that keeps its input alone for the gradients.

    Source: Ba et al. 2016.
    """

    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "*batch channels"]) -> Float[Array, "*batch channels"]:
        """`x` with mean 0 and variance 1 in each place, scaled and shifted; computed in float32 at least."""
        scale = jnp.asarray(self.param("scale", nn.initializers.ones, (x.shape[-1],)))
        bias = jnp.asarray(self.param("bias", nn.initializers.zeros, (x.shape[-1],)))
        return _layer_norm(x, scale, bias).astype(self.dtype or jnp.result_type(x, scale))


@jax.custom_vjp
def _layer_norm(x: Array, scale: Array, bias: Array) -> Array:
    centred, factor = _standard(x)
    return centred * (factor * scale) + bias


def _standard(x: Array) -> tuple[Array, Array]:
    """`x` less its mean, and what brings its variance to 1."""
    centred = x - x.mean(-1, keepdims=True, dtype=jnp.result_type(x, jnp.float32))
    return centred, lax.rsqrt(jnp.square(centred).mean(-1, keepdims=True) + 1e-5)


def _layer_norm_forward(x: Array, scale: Array, bias: Array) -> tuple[Array, tuple[Array, Array]]:
    return _layer_norm(x, scale, bias), (x, scale)


def _layer_norm_backward(kept: tuple[Array, Array], cotangent: Array) -> tuple[Array, Array, Array]:
    x, scale = kept
    x, scale = after(x, cotangent), after(scale, cotangent)
    centred, factor = _standard(x)
    normal, by_normal = centred * factor, cotangent * scale
    along = by_normal.mean(-1, keepdims=True) + normal * (by_normal * normal).mean(-1, keepdims=True)
    places = tuple(range(x.ndim - 1))
    by_x = (factor * (by_normal - along)).astype(x.dtype)
    return by_x, (cotangent * normal).sum(places).astype(scale.dtype), cotangent.sum(places).astype(scale.dtype)


_layer_norm.defvjp(_layer_norm_forward, _layer_norm_backward)


def normalize(
    x: Map,
    valid: Valid | None,
    name: str,
    *,
    norm: Norm,
    train: bool,
    magnitude: bool = False,
    epsilon: float = 1e-5,
) -> Map:
    """`x` after the norm of this kind, a submodule called `name`; statistics are those of valid pixels, or of all.

    Groups are 32, or as many as divide the channels. `magnitude` is for 'batch' and nothing to the others; `epsilon` is
    added to variances.
    """
    if norm == "frozen_batch":
        return FrozenBatchNorm(epsilon, name=name)(x)
    from vitjax.layers.masked_norms import MaskedBatchNorm, MaskedGroupNorm

    valid = jnp.ones(x.shape[:3], bool) if valid is None else valid
    if norm == "batch":
        return MaskedBatchNorm(magnitude=magnitude, epsilon=epsilon, name=name)(x, valid, train=train)
    return MaskedGroupNorm(math.gcd(32, x.shape[-1]), epsilon, name=name)(x, valid)
