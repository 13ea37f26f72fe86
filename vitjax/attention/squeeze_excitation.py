"""Squeeze-and-excitation: attention over channels. Source: Hu et al. 2018, section 3."""

from typing import ClassVar, Literal

import flax.linen as nn
import jax.numpy as jnp

from vitjax.errors import FieldError
from vitjax.layers.linear import Dense
from vitjax.ops.initializers import torch_kernel
from vitjax.ops.masks import Map, Valid, clear


class SqueezeExcitation(nn.Module):
    """Every channel times a gate that sees the means of all channels: `x * sigmoid(W2 relu(W1 mean(x)))`, no biases.

    In a ResNet it stands on the branch of each block, before the shortcut is added. The gates [batch channels] are sown
    into `intermediates` as "gate".
    """

    place: ClassVar[str] = "branch"
    starts_as_identity: ClassVar[bool] = False

    reduction: int = 16
    """The hidden layer has this many times fewer channels than the map, and at least one."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """What is computed in; parameters and means are float32 always."""

    @nn.compact
    def __call__(self, x: Map, valid: Valid | None = None, *, train: bool = False) -> Map:
        """The gated map; means are those of the pixels on the image, and zero where there are none.

        Raises:
            FieldError: the reduction is less than 1.
        """
        del train  # it does the same in training
        if self.reduction < 1:
            raise FieldError(f"squeeze-and-excitation needs a reduction of at least 1; got reduction={self.reduction}.")
        height, width, channels = x.shape[1:]
        count = height * width if valid is None else jnp.maximum(valid.sum((1, 2)), 1)[:, None]
        mean = clear(x, valid).sum((1, 2), dtype=jnp.float32) / count
        hidden = nn.relu(self._dense(max(1, channels // self.reduction), "squeeze")(mean))
        gate = nn.sigmoid(self._dense(channels, "excite")(hidden).astype(jnp.float32))
        self.sow("intermediates", "gate", gate)
        gated = x * gate.astype(x.dtype)[:, None, None]
        return clear(gated, valid)

    def _dense(self, features: int, name: str) -> nn.Dense:
        return Dense(features, use_bias=False, kernel_init=torch_kernel, dtype=self.dtype, name=name)
