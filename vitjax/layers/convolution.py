"""Convolutions without bias."""

import flax.linen as nn
from flax.typing import Initializer

from vitjax.ops.convolution import conv_general_dilated
from vitjax.ops.initializers import torch_kernel


def convolution(
    features: int,
    kernel: int,
    stride: int = 1,
    dilation: int = 1,
    *,
    kernel_init: Initializer = torch_kernel,
    dtype: str,
    name: str,
) -> nn.Conv:
    """A convolution without bias, padded on every side as torch does it (XLA's SAME shifts strided features)."""
    return nn.Conv(
        features,
        (kernel, kernel),
        strides=stride,
        padding=[(dilation * (kernel // 2),) * 2] * 2,
        kernel_dilation=dilation,
        use_bias=False,
        kernel_init=kernel_init,
        conv_general_dilated=conv_general_dilated,
        dtype=dtype,
        name=name,
    )
