"""Linear layers over the last axis, and the dropout between them."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from vitjax.ops.convolution import last_axis_product
from vitjax.ops.initializers import torch_bias, torch_kernel

Dense = partial(nn.Dense, dot_general=last_axis_product)
"""`nn.Dense`, computed as one product of matrices whatever the leading axes are."""


def linear(features: int, inputs: int, *, dtype: str, name: str) -> nn.Dense:
    """A linear layer over the last axis, which has `inputs` entries; kernel and bias start as torch draws them."""
    return Dense(features, kernel_init=torch_kernel, bias_init=torch_bias(inputs), dtype=dtype, name=name)


class Dropout(nn.Module):
    """In training sets numbers to zero with a probability and scales up the others (Srivastava et al. 2014).

    As `nn.Dropout`, with 16 random bits a number in place of 32, which took 8 % of a training step of Deformable DETR.
    They follow from key and place alone, on any number of devices. Draws from the stream `dropout`.
    """

    rate: float
    """Probability of a zero, to 1 part of 65,536."""

    @nn.compact
    def __call__(self, x: Float[Array, "*shape"], *, train: bool) -> Float[Array, "*shape"]:
        """`x`, in training with zeros and the others larger; the mean stays."""
        if not train or self.rate == 0:
            return x
        kept = min(round((1 - self.rate) * 2**16), 2**16 - 1)
        *leading, length = x.shape
        pairs = jax.random.bits(self.make_rng("dropout"), (*leading, -(-length // 2)), jnp.uint32)
        bits = jax.lax.bitcast_convert_type(pairs, jnp.uint16).reshape(*leading, -1)[..., :length]
        return jnp.where(bits < kept, x * (2**16 / max(kept, 1)), 0)
