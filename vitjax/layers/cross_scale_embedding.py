"""Cross-scale embedding: tokens from patches of several sizes. Source: Wang et al. 2022 (CrossFormer), section 3.1."""

from typing import Literal

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Bool, Float

from vitjax.errors import FieldError
from vitjax.layers.norms import LayerNorm
from vitjax.ops.initializers import torch_bias, torch_kernel
from vitjax.ops.masks import clear
from vitjax.ops.patch_convolution import patch_convolution


def shares(channels: int, kernels: int) -> tuple[int, ...]:
    """Channels of each kernel, smallest first: a half, a quarter, ..., the last twice, for large kernels are dear."""
    return tuple(channels // 2 ** min(i + 1, kernels - 1) for i in range(kernels))


class CrossScaleEmbedding(nn.Module):
    """Convolutions with several kernels and one stride, side by side, and a norm before or after them."""

    channels: int
    kernels: tuple[int, ...]
    stride: int
    norm: Literal["before", "after"]
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channels"], valid: Bool[Array, "batch height width"] | None = None
    ) -> Float[Array, "batch rows columns {self.channels}"]:
        """One token for every whole patch of `stride` x `stride`.

        With `valid` padding is never seen, and patches at the bottom and the right that are not whole count, too.

        Raises:
            FieldError: the kernels cannot be centred on the stride, or there is no whole patch.
        """
        if any(kernel < self.stride or (kernel - self.stride) % 2 for kernel in self.kernels):
            raise FieldError(f"kernels must be the stride {self.stride} or larger by an even number: {self.kernels}.")
        norm = LayerNorm(dtype=self.dtype, name="norm")
        x = norm(x) if self.norm == "before" else x
        if valid is not None:  # zeros at the bottom and the right up to whole patches
            height, width = (-side % self.stride for side in x.shape[1:3])
            x = jnp.pad(clear(x, valid), ((0, 0), (0, height), (0, width), (0, 0)))
        if min(x.shape[1:3]) < self.stride:
            raise FieldError(
                f"a map of {x.shape[1]} x {x.shape[2]} has no whole patch of {self.stride} x {self.stride}; "
                "give larger images, or padding='exact', which fills patches up."
            )
        parts = zip(self.kernels, shares(self.channels, len(self.kernels)), strict=True)
        tokens = [self._conv(features, kernel, i, x.shape[-1])(x) for i, (kernel, features) in enumerate(parts)]
        y = jnp.concatenate(tokens, axis=-1)
        return norm(y) if self.norm == "after" else y

    def _conv(self, features: int, kernel: int, i: int, inputs: int) -> nn.Conv:
        return nn.Conv(
            features,
            (kernel, kernel),
            strides=self.stride,
            padding=(kernel - self.stride) // 2,
            kernel_init=torch_kernel,
            bias_init=torch_bias(kernel * kernel * inputs),
            conv_general_dilated=patch_convolution,
            dtype=self.dtype,
            name=f"conv_{i}",
        )
