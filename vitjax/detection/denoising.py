"""Contrastive denoising: objects with noise are queries, too. Source: Zhang et al. 2022 (DINO), section 3.3.

Every image has the same number of slots for such queries, whatever it shows. A slot belongs to a group, which holds
every object twice: once with a little noise (positive: the object is to be recovered) and once with more (negative:
nothing is to be found). Groups and matching queries do not see what would give an answer away.
"""

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array
from jaxtyping import Bool, Float, Int

from vitjax.attention.multi_head import Pairs
from vitjax.detection.loss import objects_of_queries
from vitjax.ops.boxes import cxcywh_from_xyxy, xyxy_from_cxcywh
from vitjax.structs import Targets


@struct.dataclass
class Slots:
    """What each slot holds: its group and its object, -1 where there is none, and whether it is to recover it.

    Images with fewer objects than the group has room for leave slots of a group empty, which are queries all the same.
    """

    group: Int[Array, "batch slots"]
    object: Int[Array, "batch slots"]
    positive: Bool[Array, "batch slots"]

    @property
    def used(self) -> Bool[Array, "batch slots"]:
        """The slots that belong to a group."""
        return self.group >= 0

    @property
    def wanted(self) -> Int[Array, "batch slots"]:
        """The object that each slot is to recover, -1 for none."""
        return jnp.where(self.positive, self.object, -1)


@struct.dataclass
class Noise:
    """The random numbers of every slot.

    `chance`, which decides whether a label changes, and `part`, how far each corner moves, are uniform in [0, 1);
    `label` is what it may change to; `sign` is -1 or 1.
    """

    chance: Float[Array, "batch slots"]
    label: Int[Array, "batch slots"]
    sign: Float[Array, "batch slots 4"]
    part: Float[Array, "batch slots 4"]


def slots_of(valid: Bool[Array, "batch objects"], number: int, groups: int | None, images: int) -> Slots:
    """What the slots hold for these objects: so many `groups`, or as many as `number` objects fill, at least one.

    All groups of so many `images` in a row are of one size, that of the one with the most objects.
    """
    batch, most = valid.shape
    slots = 2 * (max(number, most) if groups is None else groups * most)
    counts = valid.sum(1)
    rows = jnp.pad(counts, (0, -batch % images)).reshape(-1, images)
    size = jnp.repeat(rows.max(1), images)[:batch, None]
    room = jnp.maximum(size, 1)
    repeats = jnp.maximum(number // room, 1) if groups is None else groups
    place = jnp.arange(slots)
    used = place < 2 * size * repeats
    index = place % room
    there = used & (index < counts[:, None])
    in_order = jnp.argsort(~valid, axis=1)  # objects first
    held = jnp.take_along_axis(in_order, jnp.where(there, index, 0), axis=1) if most else jnp.zeros_like(index)
    return Slots(
        group=jnp.where(used, place // (2 * room), -1),
        object=jnp.where(there, held, -1),
        positive=used & (place % (2 * room) < room),
    )


def draw_noise(key: Array, shape: tuple[int, ...], classes: int) -> Noise:
    """Noise for (batch, slots), of so many classes."""
    chance, label, sign, part = jax.random.split(key, 4)
    return Noise(
        chance=jax.random.uniform(chance, shape),
        label=jax.random.randint(label, shape, 0, classes),
        sign=jax.random.rademacher(sign, (*shape, 4), jnp.float32),
        part=jax.random.uniform(part, (*shape, 4)),
    )


def with_noise(
    targets: Targets, slots: Slots, noise: Noise, *, label_noise: float, box_noise: float
) -> tuple[Int[Array, "batch slots"], Float[Array, "batch slots 4"]]:
    """Labels and cxcywh boxes of the slots' objects with noise; of a box turned inside out the size is negative.

    A label changes with half of `label_noise`, as published. Each corner moves by up to half the side of the box times
    `box_noise`, of a negative slot by that to twice as much.
    """
    objects = objects_of_queries(targets, slots.object)
    labels = jnp.where(noise.chance < 0.5 * label_noise, noise.label, objects.labels)
    half = jnp.tile(objects.boxes[..., 2:] / 2, 2)
    part = noise.part + ~slots.positive[..., None]
    corners = xyxy_from_cxcywh(objects.boxes) + noise.sign * part * half * box_noise
    return labels, cxcywh_from_xyxy(jnp.clip(corners, 0, 1))


def pairs_of(slots: Slots, queries: int) -> Pairs:
    """Which query may look at which in every image: the slots come first, then so many matching queries.

    Everybody may look at matching queries, and those of a group at each other.
    """
    together = slots.group[:, :, None] == slots.group[:, None, :]
    among = together & slots.used[:, None, :]
    left = jnp.pad(among, ((0, 0), (0, queries), (0, 0)))
    return jnp.pad(left, ((0, 0), (0, 0), (0, queries)), constant_values=True)
