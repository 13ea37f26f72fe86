"""Sums that round little."""

import jax.numpy as jnp
from jax import Array
from jaxtyping import Float


def sum_by_halves(x: Float[Array, " batch *shape"]) -> Float[Array, ""]:
    """The sum of all numbers, in every row half on half: it rounds once for each doubling of their count.

    One sum from front to back rounds as often as there are numbers. Rows stay on their devices until their sums.
    """
    rows = x.reshape(len(x), -1)
    while rows.shape[1] > 1:
        rows = jnp.pad(rows, ((0, 0), (0, rows.shape[1] % 2)))
        half = rows.shape[1] // 2
        rows = rows[:, :half] + rows[:, half:]
    return rows.sum()
