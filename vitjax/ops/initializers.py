"""The initial distributions that the published systems inherit from torch, which differ from Flax's defaults."""

import math

import jax
from jax.nn.initializers import Initializer, variance_scaling

# U(+-1/sqrt(fan_in)): what torch gives linear and convolution kernels (Kaiming uniform with a = sqrt 5).
torch_kernel: Initializer = variance_scaling(1 / 3, "fan_in", "uniform")

# Xavier uniform over the fused [3 d, d] query-key-value matrix: sqrt(1/2) of the bound of three separate ones.
fused_qkv_kernel: Initializer = variance_scaling(0.5, "fan_avg", "uniform")


def torch_bias(fan_in: int) -> Initializer:
    """U(+-1/sqrt(fan_in)), torch's bias of a linear or convolution layer that sees `fan_in` inputs."""
    bound = 1 / math.sqrt(fan_in)

    def initialize(key, shape, dtype=jax.numpy.float32, out_sharding=None):
        return jax.random.uniform(key, shape, dtype, -bound, bound, out_sharding=out_sharding)

    return initialize
