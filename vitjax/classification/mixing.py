"""Mixup and cutmix: a batch mixed with itself in reverse order, images and targets alike."""

import dataclasses
import math

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float

from vitjax.errors import FieldError
from vitjax.structs import ClassTargets, Images


@dataclasses.dataclass(frozen=True)
class Mixing:
    """Mixup or cutmix of the images of a batch, one draw for each group of them.

    An image keeps Beta(alpha, alpha) of itself; the rest comes from its partner, the image at the same place from the
    end of the group. Mixup blends all pixels, cutmix cuts out one box, which may reach over the edge.

    Sources: Zhang et al. 2018 (mixup); Yun et al. 2019 (cutmix); timm, Mixup in mode 'batch'.
    """

    mixup: float = 0.8
    """Alpha of mixup's Beta distribution; 0 switches mixup off, and cutmix is always taken."""
    cutmix: float = 1.0
    """Alpha of cutmix's Beta distribution; 0 switches cutmix off, and mixup is always taken."""
    probability: float = 1.0
    """How often a batch is mixed at all; 0 mixes nothing, and costs nothing."""
    cutmix_share: float = 0.5
    """How often a batch that is mixed is cut rather than blended."""
    group: int | None = None
    """Images that share a draw, 128 where each of a recipe's GPUs drew for its own; None is all of a batch."""

    def __post_init__(self) -> None:
        """Raises a FieldError for an alpha that is no number from 0, or a share that is not in [0, 1]."""
        for name in ("mixup", "cutmix"):
            if not 0 <= getattr(self, name) < math.inf:
                raise FieldError(f"{name} is the alpha of a Beta distribution, at least 0; got {getattr(self, name)}.")
        for name in ("probability", "cutmix_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise FieldError(f"{name} is a share, from 0 to 1; got {getattr(self, name)}.")
        if self.group is not None and self.group < 2:
            raise FieldError(f"group is how many images are mixed with one another, at least 2; got {self.group}.")
        if self.probability and not self.mixup and not self.cutmix:
            raise FieldError("mixup and cutmix are both 0, so there is no way to mix; set probability to 0 instead.")

    def __call__(self, key: Array, images: Images, targets: ClassTargets) -> tuple[Images, ClassTargets]:
        """The mixed batch; `valid` of images and targets stays as it is.

        A partner comes in only where both images have pixels, and not at all where either is not valid as a target.
        The targets are shared as the pixels of each image really are.

        Raises:
            FieldError: the batch does not divide into groups.
        """
        if self.probability == 0:
            return images, targets
        count = self.groups(len(targets.valid))
        if count == 1:
            return self._mixed(key, images, targets)
        apart = jax.tree.map(lambda x: x.reshape(count, -1, *x.shape[1:]), (images, targets))
        mixed = jax.vmap(self._mixed)(jax.random.split(key, count), *apart)
        return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), mixed)

    def groups(self, rows: int) -> int:
        """How many groups so many images are; fewer than a group has are one.

        Raises:
            FieldError: they do not divide into groups.
        """
        if self.group is None or rows <= self.group:
            return 1
        if rows % self.group:
            raise FieldError(f"mixing.group must divide the images mixed at a time; got {self.group} and {rows}.")
        return rows // self.group

    def _mixed(self, key: Array, images: Images, targets: ClassTargets) -> tuple[Images, ClassTargets]:
        """One group mixed."""
        region, strength = self._draw(key, *images.valid.shape[1:])
        whole = targets.valid & targets.valid[::-1]
        mixed = region & images.valid & images.valid[::-1] & whole[:, None, None]
        pixels = jnp.where(mixed[..., None], _blend(images.pixels, strength), images.pixels)
        given = strength * mixed.sum((1, 2)) / jnp.maximum(images.valid.sum((1, 2)), 1)
        shares = _blend(targets.probabilities, given[:, None])
        return dataclasses.replace(images, pixels=pixels), dataclasses.replace(targets, probabilities=shares)

    def _draw(self, key: Array, height: int, width: int) -> tuple[Bool[Array, "height width"], Float[Array, ""]]:
        """Where partners come in, and how strongly: everywhere in part, or in a box altogether."""
        mix_key, cut_key, beta_key, box_key = jax.random.split(key, 4)
        share = 1.0 if self.mixup == 0 else self.cutmix_share if self.cutmix else 0.0
        cut = jax.random.bernoulli(cut_key, share)
        alpha = jnp.where(cut, self.cutmix, self.mixup)
        kept = jax.random.beta(beta_key, alpha, alpha)
        kept = jnp.where(jax.random.bernoulli(mix_key, self.probability), kept, 1)
        return _box(box_key, kept, height, width) | ~cut, jnp.where(cut, 1, 1 - kept)


def _blend(values: Array, given: Array) -> Array:
    """Values of which the share `given` is the partner's."""
    return (1 - given) * values + given * values[::-1]


def _box(key: Array, kept: Array, height: int, width: int) -> Array:
    """True in a box of 1 - kept of the area, centred anywhere, less what lies over the edge."""

    def inside(key: Array, side: int) -> Array:
        length = jnp.floor(side * jnp.sqrt(1 - kept)).astype(jnp.int32)
        start = jax.random.randint(key, (), 0, side) - length // 2
        places = jnp.arange(side)
        return (places >= start) & (places < start + length)

    row_key, column_key = jax.random.split(key)
    return inside(row_key, height)[:, None] & inside(column_key, width)
