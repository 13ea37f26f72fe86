"""Linear layers over the last axis, and the dropout between them."""

from functools import partial

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float

from vitjax.ops.convolution import last_axis_product
from vitjax.ops.hashed_bits import hashed_bits
from vitjax.ops.initializers import torch_bias, torch_kernel

Dense = partial(nn.Dense, dot_general=last_axis_product)
"""`nn.Dense`, computed as one product of matrices whatever the leading axes are."""


def linear(features: int, inputs: int, *, dtype: str, name: str) -> nn.Dense:
    """A linear layer over the last axis, which has `inputs` entries; kernel and bias start as torch draws them."""
    return Dense(features, kernel_init=torch_kernel, bias_init=torch_bias(inputs), dtype=dtype, name=name)


class Dropout(nn.Module):
    """In training sets numbers to zero with a probability and scales up the others (Srivastava et al. 2014).

    As `nn.Dropout`, with random bits that cost next to nothing: threefry's took 8 % of a training step of Deformable
    DETR, and seconds of its compilation. Draws from the stream `dropout`.
    """

    rate: float
    """Probability of a zero."""

    @nn.compact
    def __call__(self, x: Float[Array, "*shape"], *, train: bool) -> Float[Array, "*shape"]:
        """`x`, in training with zeros and the others larger; the mean stays."""
        if not train or self.rate == 0:
            return x
        if self.rate == 1:
            return jnp.zeros_like(x)
        zeros = min(round(self.rate * 2**32), 2**32 - 1)
        return jnp.where(hashed_bits(self.make_rng("dropout"), x.shape) < np.uint32(zeros), 0, x / (1 - self.rate))
