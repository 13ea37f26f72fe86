"""Stochastic depth. Source: Huang et al. 2016."""

import flax.linen as nn
from jax import Array
from jaxtyping import Float


class DropPath(nn.Module):
    """In training leaves out a whole branch for some images of a batch, and scales it up for the others.

    Draws from the stream `dropout`.
    """

    rate: float
    """Probability that an image goes without the branch."""

    @nn.compact
    def __call__(self, x: Float[Array, "*batch"], *, train: bool) -> Float[Array, "*batch"]:
        """`x`, zero for some images and divided by 1 - rate for all others; the mean stays."""
        return nn.Dropout(self.rate, broadcast_dims=tuple(range(1, x.ndim)), name="drop")(x, deterministic=not train)
