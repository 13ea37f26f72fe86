"""A 3x3 convolution with norm and activation, as heads over dense maps are built of."""

import math
from typing import Literal

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float

from vitjax.layers.norms import FrozenBatchNorm, MaskedBatchNorm, MaskedGroupNorm
from vitjax.ops.initializers import torch_kernel
from vitjax.ops.masks import clear

Norm = Literal["batch", "frozen_batch", "group"]


class ConvNorm(nn.Module):
    """Convolution without bias, norm, activation; padding is zero before and after."""

    features: int
    """Channels of the result."""
    norm: Norm = "batch"
    """What normalises; statistics are those of valid pixels."""
    activation: Literal["relu", "in_place"] = "relu"
    """'in_place' is what InPlaceABN does: batch norm with |scale| + 1e-5, then leaky ReLU of slope 0.01.
    Frozen and group norms keep their scale as it is, and only the ReLU leaks."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """What is computed in; parameters and norm statistics are float32 always."""

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch h w channels"], valid: Bool[Array, "batch h w"] | None = None, *, train: bool
    ) -> Float[Array, "batch h w features"]:
        """The map after convolution, norm and activation; without `valid` all pixels are."""
        everywhere = jnp.ones(x.shape[:3], bool) if valid is None else valid
        conv = nn.Conv(
            self.features,
            (3, 3),
            padding=1,
            use_bias=False,
            kernel_init=torch_kernel,
            dtype=self.dtype,
            name="conv",
        )
        y = self._normalize(conv(x if valid is None else clear(x, valid)), everywhere, train=train)
        y = nn.relu(y) if self.activation == "relu" else nn.leaky_relu(y, 0.01)
        return y if valid is None else clear(y, valid)

    def _normalize(self, x: Array, valid: Array, *, train: bool) -> Array:
        if self.norm == "frozen_batch":
            return FrozenBatchNorm(name="norm")(x)
        if self.norm == "group":
            return MaskedGroupNorm(math.gcd(32, x.shape[-1]), name="norm")(x, valid)
        return MaskedBatchNorm(magnitude=self.activation == "in_place", name="norm")(x, valid, train=train)
