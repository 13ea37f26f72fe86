"""Linear assignment inside jit. Source: Crouse 2016, "On implementing 2D rectangular assignment algorithms".

Written out rather than taken from a library, because a detector's padded places and an encoder's 20,000 tokens are what
general solvers are slow at (docs/performance.md).
"""

import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float, Int


def linear_assignment(cost: Float[Array, "rows columns"], count: Int[Array, ""]) -> Int[Array, " rows"]:
    """The column of each of the first `count` rows in the cheapest assignment; the other rows get 0.

    Costs must be finite: with others it may not return. Each row takes one shortest augmenting path, of steps
    that are linear in the number of columns.

    Raises:
        ValueError: there are more rows than columns.
    """
    rows, columns = cost.shape
    if rows > columns:
        raise ValueError(f"an assignment needs at least as many columns as rows; got {rows} rows, {columns} columns.")
    from vitjax.ops.kernels import MOST_COLUMNS, kernels_serve

    if kernels_serve() and 0 < rows and columns <= MOST_COLUMNS:
        from vitjax.ops.kernels.assignment import assigned

        return lax.platform_dependent(cost, count, cuda=assigned, default=_by_loops)
    return _by_loops(cost, count)


def _by_loops(cost: Array, count: Array) -> Array:
    rows, columns = cost.shape
    state = (
        jnp.zeros(rows, jnp.float32),  # price of each row
        jnp.zeros(columns, jnp.float32),  # price of each column
        jnp.full(rows, -1, jnp.int32),  # column of each row
        jnp.full(columns, -1, jnp.int32),  # row of each column
    )

    def add(carry: tuple) -> tuple:
        row, state = carry
        return row + 1, _add_row(cost, row, *state)

    _, (_, _, column_of, _) = lax.while_loop(lambda carry: carry[0] < count, add, (jnp.int32(0), state))
    return jnp.maximum(column_of, 0)


def _add_row(cost: Array, new: Array, row_price: Array, price: Array, column_of: Array, row_of: Array) -> tuple:
    """One row more in the assignment, by the cheapest chain of swaps that ends at a free column."""

    def look(carry: tuple) -> tuple:
        """Extends the tree of cheapest chains by the column that is nearest to it."""
        row, so_far, distance, came_from, closed, _ = carry
        reached = so_far + cost[row] - row_price[row] - price
        nearer = ~closed & (reached < distance)
        distance = jnp.where(nearer, reached, distance)
        came_from = jnp.where(nearer, row, came_from)
        open_distance = jnp.where(closed, jnp.inf, distance)
        so_far = open_distance.min()
        free = (open_distance == so_far) & (row_of < 0)  # among equals a free column ends the search
        column = jnp.where(free.any(), jnp.argmax(free), jnp.argmin(open_distance)).astype(jnp.int32)
        return row_of[column], so_far, distance, came_from, closed.at[column].set(True), column

    columns = cost.shape[1]
    start = (
        new,
        jnp.float32(0),
        jnp.full(columns, jnp.inf, jnp.float32),
        jnp.full(columns, -1, jnp.int32),
        jnp.zeros(columns, bool),
        jnp.int32(0),
    )
    _, length, distance, came_from, closed, end = lax.while_loop(lambda carry: carry[0] >= 0, look, start)

    gain = jnp.where(closed, length - distance, 0)
    seen = column_of >= 0
    row_price = row_price + jnp.where(seen, gain[jnp.maximum(column_of, 0)], 0)
    row_price = row_price.at[new].add(length)

    def swap(carry: tuple) -> tuple:
        column, _, column_of, row_of = carry
        row = came_from[column]
        return column_of[row], row, column_of.at[row].set(column), row_of.at[column].set(row)

    swaps = (end, jnp.int32(-1), column_of, row_of)
    *_, column_of, row_of = lax.while_loop(lambda carry: carry[1] != new, swap, swaps)
    return row_price, price - gain, column_of, row_of
