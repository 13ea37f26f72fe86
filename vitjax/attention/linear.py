"""The linear layer that the attention zoo is made of: on maps it is a convolution of one pixel."""

import flax.linen as nn

from vitjax.layers.linear import Dense
from vitjax.ops.initializers import torch_bias, torch_kernel


def linear(features: int, inputs: int, *, dtype: str, name: str) -> nn.Dense:
    """A linear layer over the last axis, which has `inputs` entries; kernel and bias start as torch draws them."""
    return Dense(features, kernel_init=torch_kernel, bias_init=torch_bias(inputs), dtype=dtype, name=name)
