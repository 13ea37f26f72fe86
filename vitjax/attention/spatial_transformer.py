"""A network that turns, shifts, scales and shears its input before others look at it.

Source: Jaderberg et al. 2015 (spatial transformer networks).
"""

from typing import ClassVar, Literal, get_args

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from vitjax.errors import FieldError
from vitjax.layers.linear import Dense
from vitjax.ops.affine import Convention, affine_grid, sample
from vitjax.ops.initializers import torch_bias, torch_kernel
from vitjax.ops.masks import Map, Valid, clear
from vitjax.ops.padded_maps import cell_means, extents
from vitjax.ops.pooling import max_pool

IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


class SpatialTransformer(nn.Module):
    """out(x, y) = in(theta (x, y, 1)), bilinear, with theta [2 3] made of the input by a small network.

    The network: convolutions, each followed by ReLU and max pooling, means over cells of the image, two dense layers.
    The last one starts at the identity, which with the conventions 'corners' and 'edges' returns the image. `theta`,
    `[batch 2 3]`, is sown; `affine_grid(theta, size, convention=...)` of `vitjax.ops.affine` tells where it looked.
    So is "outline", `[batch 4 2]`: where theta takes the corners (-1, -1), (1, -1), (1, 1) and (-1, 1), as (x, y) from
    0 to 1 between the edges of each image.
    Source: Jaderberg et al. 2015, section 3; the network is free there.

    Raises:
        FieldError: the kernel's side is even or less than 1, or there is no such convention.
    """

    place: ClassVar[str] = "stage"

    features: tuple[int, ...] = (8, 10)
    """Channels of the convolutions, each followed by a pooling that halves the map."""
    kernel: int = 5
    """Side of the convolutions' kernels, an odd number."""
    cells: int = 4
    """The dense layers see the means of so many times so many cells, whatever the image's size."""
    hidden: int = 32
    """Width of the first dense layer."""
    size: tuple[int, int] | None = None
    """Height and width of what is given out; None gives the size that came in."""
    convention: Convention = "corners"
    """What lies at -1 and 1: 'corners' the centres of the corner pixels, 'edges' the rim of the image, 'open' as in the
    published code, where the identity shrinks the image by a pixel."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """What the convolutions are computed in; theta and the places are float32 always."""

    @property
    def starts_as_identity(self) -> bool:
        """Whether the first theta returns the map: not at another size, nor where the identity shrinks the image."""
        return self.size is None and self.convention != "open"

    @nn.compact
    def __call__(
        self, x: Map, valid: Valid | None = None, *, train: bool = False
    ) -> Float[Array, "batch height width channels"]:
        """The transformed map, zero where theta leads off the image; with `size` given all of it is valid."""
        self._check()
        known = jnp.ones(x.shape[:3], bool) if valid is None else valid
        x = clear(x, known)
        theta = self._theta(x, known)
        self.sow("intermediates", "theta", theta)
        self.sow("intermediates", "outline", self._outline(theta, known))
        given = None if valid is None else extents(valid)
        wanted = given if self.size is None else None
        size = self.size or (x.shape[1], x.shape[2])
        grid = affine_grid(theta, size, convention=self.convention, extents=wanted)
        out = sample(x, grid, convention=self.convention, extents=given)
        return clear(out, known) if self.size is None else out

    def _check(self) -> None:
        if self.kernel < 1 or self.kernel % 2 == 0:
            raise FieldError(f"the kernel of a spatial transformer has an odd side; got kernel={self.kernel}.")
        known = get_args(Convention)
        if self.convention not in known:
            raise FieldError(f"the convention is one of {', '.join(known)}; got convention={self.convention!r}.")

    def _outline(self, theta: Array, valid: Array) -> Array:
        """Where theta takes the corners, clockwise from the upper left, as shares of the sides of each image."""
        corners = jnp.array([[-1, -1, 1], [1, -1, 1], [1, 1, 1], [-1, 1, 1]], theta.dtype)
        places = jnp.einsum("bij,cj->bci", theta, corners, precision="highest")
        sides = jnp.maximum(extents(valid), 1)[:, None, ::-1]
        rim = 0.0 if self.convention == "edges" else 0.5  # pixels from the edge of the image to what is called -1
        return ((places + 1) / 2 * (sides - 2 * rim) + rim) / sides

    def _theta(self, x: Array, valid: Array) -> Array:
        for i, features in enumerate(self.features, start=1):
            x = nn.Conv(
                features,
                (self.kernel, self.kernel),
                padding=self.kernel // 2,
                kernel_init=torch_kernel,
                bias_init=torch_bias(self.kernel**2 * x.shape[-1]),
                dtype=self.dtype,
                name=f"conv_{i}",
            )(x)
            x = max_pool(clear(nn.relu(x), valid))
            valid = valid[:, ::2, ::2]
            x = clear(x, valid)  # a window beyond the rim may reach back into the image
        seen = cell_means(x.astype(jnp.float32), valid, self.cells).reshape(len(x), -1)
        bias = torch_bias(seen.shape[-1])
        hidden = nn.relu(Dense(self.hidden, kernel_init=torch_kernel, bias_init=bias, name="hidden")(seen))
        identity = nn.initializers.constant(jnp.array(IDENTITY))
        last = Dense(6, kernel_init=nn.initializers.zeros, bias_init=identity, name="last")
        return last(hidden).reshape(-1, 2, 3)
