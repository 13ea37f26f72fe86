"""Random erasing: a rectangle of noise on some images of a batch."""

import dataclasses
import math

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Int

from vitjax.errors import FieldError
from vitjax.structs import Images

ATTEMPTS = 10


@dataclasses.dataclass(frozen=True)
class Erasing:
    """Replaces a rectangle by normal noise of mean 0 and deviation 1, drawn for every pixel and channel.

    A rectangle that is not smaller than its image is drawn again, up to ten times in all; then the image stays whole.

    Sources: Zhong et al. 2020; timm, RandomErasing in mode 'pixel' with count 1.
    """

    probability: float = 0.25
    """How often an image is erased; 0 erases nothing, and costs nothing."""
    area: tuple[float, float] = (0.02, 1 / 3)
    """Least and greatest share of the image that is erased."""
    aspect: tuple[float, float] = (0.3, 10 / 3)
    """Least and greatest height over width of what is erased."""

    def __post_init__(self) -> None:
        """Raises a FieldError for a probability or range that makes no sense."""
        if not 0 <= self.probability <= 1:
            raise FieldError(f"probability is a share, from 0 to 1; got {self.probability}.")
        if not 0 <= self.area[0] <= self.area[1] <= 1:
            raise FieldError(f"area is two shares of the image, the lesser first; got {self.area}.")
        if not 0 < self.aspect[0] <= self.aspect[1] < math.inf:
            raise FieldError(f"aspect is two ratios above 0, the lesser first; got {self.aspect}.")

    def __call__(self, key: Array, images: Images) -> Images:
        """The images with rectangles of noise; a padded image is erased as it is alone, and its padding stays zero."""
        if self.probability == 0:
            return images
        chance_key, box_key, noise_key = jax.random.split(key, 3)
        valid = images.valid
        sizes = jnp.stack([valid.any(2).sum(1), valid.any(1).sum(1)], axis=-1)
        top_left, sides = self._boxes(box_key, sizes)
        rows, columns = (
            (jnp.arange(length) >= top_left[:, axis, None]) & (jnp.arange(length) < (top_left + sides)[:, axis, None])
            for axis, length in enumerate(valid.shape[1:])
        )
        chosen = jax.random.bernoulli(chance_key, self.probability, valid.shape[:1])
        erased = rows[:, :, None] & columns[:, None, :] & valid & chosen[:, None, None]
        noise = jax.random.normal(noise_key, images.pixels.shape, images.pixels.dtype)
        return dataclasses.replace(images, pixels=jnp.where(erased[..., None], noise, images.pixels))

    def _boxes(self, key: Array, sizes: Int[Array, "batch 2"]) -> tuple[Int[Array, "batch 2"], Int[Array, "batch 2"]]:
        """Top left corner and sides of a rectangle inside each image; sides are 0 where no attempt fits."""
        area_key, aspect_key, corner_key = jax.random.split(key, 3)
        attempts = (len(sizes), ATTEMPTS)
        areas = jax.random.uniform(area_key, attempts, jnp.float32, *self.area)
        logs = jax.random.uniform(aspect_key, attempts, jnp.float32, *map(math.log, self.aspect))
        roots = jnp.sqrt(areas * sizes.prod(-1, keepdims=True))
        slant = jnp.exp(logs / 2)
        drawn = jnp.round(jnp.stack([roots * slant, roots / slant], axis=-1)).astype(jnp.int32)
        fits = (drawn < sizes[:, None]).all(-1)
        first = jnp.take_along_axis(drawn, fits.argmax(-1)[:, None, None], axis=1)[:, 0]
        sides = jnp.where(fits.any(-1, keepdims=True), first, 0)
        return jax.random.randint(corner_key, sizes.shape, 0, sizes - sides + 1), sides
