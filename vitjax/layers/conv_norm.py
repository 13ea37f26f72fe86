"""A convolution with norm and activation, as heads over dense maps are built of."""

from typing import Literal

import flax.linen as nn
from jax import Array
from jaxtyping import Float

from vitjax.layers.convolution import convolution
from vitjax.layers.norms import Norm, normalize
from vitjax.ops.masks import Map, Valid, clear


class ConvNorm(nn.Module):
    """A 3x3 convolution, norm, activation; padding is zero before and after."""

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
    def __call__(self, x: Map, valid: Valid | None = None, *, train: bool) -> Float[Array, "batch h w features"]:
        """The map after convolution, norm and activation; without `valid` all pixels are."""
        in_place = self.activation == "in_place"
        y = convolution(self.features, 3, dtype=self.dtype, name="conv")(clear(x, valid))
        y = normalize(y, valid, "norm", norm=self.norm, train=train, magnitude=in_place)
        return clear(nn.leaky_relu(y, 0.01) if in_place else nn.relu(y), valid)
