"""Work on rows of which only some are there, a few at a time and no others."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Bool


def in_parts(function: Callable[..., Any], rows: tuple[Any, ...], there: Bool[Any, "batch rows"], *, each: int) -> Any:
    """What a function gives for arrays of (batch, rows, ...), from so many rows of every image at a time.

    Parts none of whose rows are there are left out, at the time when it runs, and give zeros. The function treats every
    row by itself, and its answers have the axes of (batch, rows, ...), too. Where there is more than one part the
    backward pass computes a part anew, so it needs the memory of one.
    """
    batch, count = there.shape
    parts = -(-count // each)
    if parts == 1:
        return function(*rows)
    padded = [jnp.pad(x, [(0, 0), (0, parts * each - count), *[(0, 0)] * (x.ndim - 2)]) for x in (*rows, there)]
    split = [jnp.moveaxis(x.reshape(batch, parts, each, *x.shape[2:]), 1, 0) for x in padded]
    some = [jax.ShapeDtypeStruct((batch, each, *x.shape[2:]), x.dtype) for x in rows]
    nothing = jax.eval_shape(function, *some)
    if parts == 0:
        return jax.tree.map(lambda x: jnp.zeros((batch, 0, *x.shape[2:]), x.dtype), nothing)

    def part(_: None, given: list[Any]) -> tuple[None, Any]:
        *own, here = given
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), nothing)
        return None, lax.cond(here.any(), lambda own: jax.checkpoint(function)(*own), lambda _: zeros, own)

    _, found = lax.scan(part, None, split)
    return jax.tree.map(lambda x: jnp.moveaxis(x, 0, 1).reshape(batch, parts * each, *x.shape[3:])[:, :count], found)
