"""Linear assignment on Nvidia GPUs: a problem to a program, which holds what belongs to its columns in registers.

The steps, ties included, are those of `vitjax.ops.assignment`, where on a GPU each of them is several kernels and a
question to the host.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton


def assigned(cost: Array, count: Array, *, interpret: bool = False) -> Array:
    """The column of each of the first `count` rows in the cheapest assignment; the other rows get 0."""
    rows, columns = cost.shape
    width, height = pl.next_power_of_2(columns), pl.next_power_of_2(rows)

    def kernel(cost_ref: Any, count_ref: Any, out_ref: Any) -> None:
        count, every = count_ref[0], jnp.arange(width, dtype=jnp.int32)
        nowhere = jnp.full(width, -1, jnp.int32)

        def at(numbers: Array, column: Array) -> Array:
            return jnp.where(every == column, numbers, 0).sum(dtype=numbers.dtype)

        def add(carry: tuple) -> tuple:
            new, price, row_of, paid = carry  # of each column: its price, its row, and the price of that row

            def look(carry: tuple) -> tuple:
                row, row_price, so_far, distance, came_from, closed, _ = carry
                line = triton.load(cost_ref.at[row, every], mask=every < columns, other=jnp.inf)
                reached = so_far + line - row_price - price
                nearer = (closed == 0) & (reached < distance)
                distance = jnp.where(nearer, reached, distance)
                came_from = jnp.where(nearer, row, came_from)
                open_distance = jnp.where(closed == 0, distance, jnp.inf)
                so_far = open_distance.min()
                nearest = open_distance == so_far
                # Among equals a free column ends the search: it comes before all others.
                column = (jnp.where(nearest, every, 2 * width) + jnp.where(row_of < 0, 0, width)).min() % width
                closed = jnp.where(every == column, 1, closed)
                return at(row_of, column), at(paid, column), so_far, distance, came_from, closed, column

            unseen = jnp.full(width, jnp.inf, jnp.float32)
            start = (new, jnp.float32(0), jnp.float32(0), unseen, nowhere, jnp.zeros(width, jnp.int32), jnp.int32(0))
            found = lax.while_loop(lambda carry: carry[0] >= 0, look, start)
            _, _, length, distance, came_from, closed, end = found
            gain = jnp.where(closed == 0, 0, length - distance)
            paid += jnp.where(row_of < 0, 0, gain)

            def swap(carry: tuple) -> tuple:
                column, row_of, paid = carry
                row = at(came_from, column)
                before = jnp.where(row_of == row, every, -1).max()  # the column that the row has had; -1 for a new one
                price = jnp.where(before < 0, length, at(paid, before))
                return before, jnp.where(every == column, row, row_of), jnp.where(every == column, price, paid)

            _, row_of, paid = lax.while_loop(lambda carry: carry[0] >= 0, swap, (end, row_of, paid))
            return new + 1, price - gain, row_of, paid

        zeros = jnp.zeros(width, jnp.float32)
        *_, row_of, _ = lax.while_loop(lambda carry: carry[0] < count, add, (jnp.int32(0), zeros, nowhere, zeros))
        taken = row_of >= 0
        triton.store(out_ref.at[jnp.where(taken, row_of, rows)], every, mask=taken)
        row = jnp.arange(height, dtype=jnp.int32)
        triton.store(out_ref.at[row], jnp.zeros(height, jnp.int32), mask=(row >= count) & (row < rows))

    call = pl.pallas_call(
        kernel,
        out_shape=jax.ShapeDtypeStruct((rows,), jnp.int32),
        compiler_params=triton.CompilerParams(num_warps=max(1, width // 512), num_stages=1),
        interpret=interpret,
    )
    return call(cost.astype(jnp.float32), count[None].astype(jnp.int32))
