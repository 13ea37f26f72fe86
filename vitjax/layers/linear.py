"""Linear layers over the last axis."""

from typing import Any

import flax.linen as nn

from vitjax.ops.convolution import last_axis_product
from vitjax.ops.initializers import torch_bias, torch_kernel


class Dense(nn.Dense):
    """`nn.Dense`, computed as one product of matrices whatever the leading axes are."""

    dot_general: Any = last_axis_product


def linear(features: int, inputs: int, *, dtype: str, name: str) -> Dense:
    """A linear layer over the last axis, which has `inputs` entries; kernel and bias start as torch draws them."""
    return Dense(features, kernel_init=torch_kernel, bias_init=torch_bias(inputs), dtype=dtype, name=name)
