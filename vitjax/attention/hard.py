"""Hard attention: glimpses of parts of an image, and policies that choose at random where to look next.

Locations are xy as shares of the unpadded image: (0, 0) is its top left and (1, 1) its bottom right corner.
Sources: Mnih et al. 2014 (RAM), section 3; Jang et al. 2017, section 2, for the choice among cells.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct
from jax import Array, lax
from jaxtyping import Float

from vitjax.layers.linear import Dense
from vitjax.ops.padded_maps import extents
from vitjax.ops.policy_gradient import categorical_log_prob, gaussian_log_prob, straight_through_gumbel
from vitjax.structs import Images


@struct.dataclass
class Choice:
    """Where to look and how likely that was; of a choice among cells also which, 1 for it and 0 for the others."""

    locations: Float[Array, "batch 2"]
    log_probs: Float[Array, " batch"]
    cells: Float[Array, "batch cells"] | None = None


class GlimpseSensor(nn.Module):
    """RAM's glimpse sensor: square patches around a location that show more and more, ever more coarsely.

    Patch s shows size 2^s pixels of the image at `size` pixels, each the mean of 2^s x 2^s bilinear readings. Outside
    the image are the pixels of its edge. There are no parameters.
    """

    size: int = 12
    """Side of a patch in pixels."""
    scales: int = 2
    """Number of patches; each shows twice the side of the one before."""

    def __call__(
        self, images: Images, locations: Float[Array, "batch 2"]
    ) -> Float[Array, "batch {self.size} {self.size} patches"]:
        """The patches side by side in the channels, finest first; with gradients to pixels and locations."""
        return self._seen(images, locations[:, None])[:, 0, 0]

    def of_cells(self, images: Images, cells: int) -> Float[Array, "batch tokens {self.size} {self.size} patches"]:
        """What is seen from the centres of cells x cells cells of the image, row by row."""
        middles = jnp.broadcast_to((jnp.arange(cells)[:, None] + 0.5) / cells, (len(images.valid), cells, 2))
        seen = self._seen(images, middles)
        return seen.reshape(-1, cells**2, *seen.shape[3:])

    def _seen(self, images: Images, places: Float[Array, "batch places 2"]) -> Array:
        """Patches at every y of the places with every x of them: [batch, rows, columns, size, size, channels]."""
        return jnp.concatenate([windows(images, places, self.size, 2**scale) for scale in range(self.scales)], -1)


def windows(
    images: Images, centres: Float[Array, "batch places 2"], points: int, step: int
) -> Float[Array, "batch places places {points} {points} channels"]:
    """Windows of points x points, step pixels apart, at every y of the centres (first axis) with every x of them.

    A point is the mean of step x step bilinear readings. Readings are products of two tents, so a window is two matrix
    products: no gather, and gradients to centres and pixels alike.
    """
    rows, columns = (
        _tents(centres[..., 1 - axis], size, images.pixels.shape[1 + axis], points, step)
        for axis, size in enumerate(extents(images.valid).T)
    )
    lines = jnp.einsum("brih,bhwc->briwc", rows, images.pixels)
    return jnp.einsum("bkjw,briwc->brkijc", columns, lines)


def _tents(centres: Array, size: Array, length: int, points: int, step: int) -> Array:
    """How much of every pixel each point of a window takes along one axis: [batch, places, points, length].

    `size` of the `length` pixels are the image.
    """
    offsets = jnp.arange(points * step) - points * step / 2
    size = size[:, None, None]
    # Pixel i of n has its centre at i + 0.5, as readings have; beyond the outermost centres lies what lies on them.
    places = jnp.clip(centres[..., None] * size + offsets, 0, size - 1)
    tents = jnp.maximum(1 - jnp.abs(places[..., None] - jnp.arange(length)), 0)
    return tents.reshape(*centres.shape, points, step, length).mean(-2)


def overview(images: Images, side: int) -> Float[Array, "batch {side} {side} channels"]:
    """The whole image at side x side pixels, each the mean over its part of the image."""
    rows, columns = (
        _parts(size, images.pixels.shape[1 + axis], side) for axis, size in enumerate(extents(images.valid).T)
    )
    return jnp.einsum("bih,bhwc,bjw->bijc", rows, images.pixels, columns)


def _parts(size: Array, length: int, side: int) -> Array:
    """How much of every pixel each of `side` equal parts of the image takes along one axis: [batch, side, length]."""
    edges = size[:, None] * jnp.arange(side + 1) / side
    start, end = edges[:, :-1, None], edges[:, 1:, None]
    pixel = jnp.arange(length)
    return jnp.maximum(jnp.minimum(end, pixel + 1) - jnp.maximum(start, pixel), 0) / (end - start)


class LocationPolicy(nn.Module):
    """A normal distribution around a mean that a network chooses: l ~ N((1 + tanh(W h + b)) / 2, deviation^2 I)."""

    deviation: float = 0.1
    """Standard deviation along x and y, as a share of the image."""

    @nn.compact
    def __call__(self, state: Float[Array, "batch channels"], *, sample: bool) -> Choice:
        """A place drawn with the random numbers called 'dropout', or the mean. Gradients go through log_probs alone.

        What is drawn outside the image is moved to its edge after its probability is told.
        """
        start = nn.initializers.normal(0.01)
        mean = (1 + jnp.tanh(Dense(2, kernel_init=start, name="mean")(state.astype(jnp.float32)))) / 2
        drawn = mean
        if sample:
            drawn = mean + self.deviation * jax.random.normal(self.make_rng("dropout"), mean.shape)
        drawn = lax.stop_gradient(drawn)
        return Choice(drawn.clip(0, 1), gaussian_log_prob(drawn, mean, self.deviation))


class CellPolicy(nn.Module):
    """A choice among the cells of a coarse map by scores that a network gives them: softmax(w . seen + W h).

    Cells are drawn with the straight-through Gumbel-softmax: gradients go through `cells`, which is one-hot, as well as
    through `log_probs`, for whoever prefers a reward.
    """

    temperature: float = 1.0
    """Of the Gumbel-softmax: the lower, the less biased and the noisier are the gradients."""

    @nn.compact
    def __call__(
        self, state: Float[Array, "batch channels"], seen: Float[Array, "batch rows columns features"], *, sample: bool
    ) -> Choice:
        """The middle of a cell drawn with the random numbers called 'dropout', or that of the likeliest cell."""
        _, rows, columns, _ = seen.shape
        scores = Dense(1, name="score")(seen.astype(jnp.float32)).reshape(len(state), -1)
        logits = scores + Dense(rows * columns, name="visit")(state.astype(jnp.float32))
        if sample:
            chosen = straight_through_gumbel(self.make_rng("dropout"), logits, self.temperature)
        else:
            chosen = jax.nn.one_hot(logits.argmax(-1), logits.shape[-1])
        y, x = jnp.indices((rows, columns)).reshape(2, -1)
        middles = jnp.stack([(x + 0.5) / columns, (y + 0.5) / rows], -1)
        fixed = lax.stop_gradient(chosen)
        return Choice(fixed @ middles, categorical_log_prob(logits, fixed), chosen)
