"""How XLA may divide what it knows nothing of: a kernel, left to itself, would give each device everything."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.custom_batching import custom_vmap
from jax.experimental.custom_partitioning import custom_partitioning


def divisible(function: Callable, rule: str, whole: Sequence[str]) -> Callable:
    """The function of arrays [images ...] as one that is divided among devices, and can be mapped over more images.

    `rule` names the axes of what it takes and gives, as Shardy has it; those that are `whole` are never divided.
    """
    divided = custom_partitioning(lambda *given: function(*given))  # which cannot read a partial's signature

    def part(mesh: Any, given: Any, gives: Any) -> tuple:
        placed, answers = (jax.tree.map(lambda one: one.sharding, side) for side in (given, gives))
        return mesh, function, answers, placed

    in_order = tuple(sorted(whole, key=rule.index))  # of the rule, or XLA refuses them
    divided.def_partition(part, sharding_rule=rule, need_replication_factors=in_order)
    mapped = custom_vmap(divided)

    @mapped.def_vmap
    def over(size: int, batched: list[bool], *given: Array) -> tuple:
        every = [x if has else jnp.broadcast_to(x, (size, *x.shape)) for x, has in zip(given, batched, strict=True)]
        out = mapped(*(x.reshape(-1, *x.shape[2:]) for x in every))
        return jax.tree.map(lambda x: x.reshape(size, -1, *x.shape[1:]), out), jax.tree.map(lambda _: True, out)

    return mapped
