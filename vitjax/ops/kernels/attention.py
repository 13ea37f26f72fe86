"""Softmax attention on Nvidia GPUs, in one kernel forward and two backward: scores and weights never reach memory.

A program takes a block of queries of one head and goes through the keys, or the other way round. Of a query's softmax
the largest score and the sum are kept. Source: Dao 2024 (FlashAttention-2), section 3.1.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

from vitjax.ops.convolution import wide_einsum
from vitjax.ops.kernels.divisible import divisible
from vitjax.ops.residuals import bits_at, dropped, scale_of_others

_LEAST = float(np.finfo(np.float32).min)
_WHOLE = "qkcdrs"


class Blocks(NamedTuple):
    """How many queries and keys a program takes at a time, and by how many warps."""

    queries: int
    keys: int
    warps: int = 4
    stages: int = 2


FORWARD, BY_QUERIES, BY_KEYS = Blocks(128, 64), Blocks(64, 64), Blocks(64, 64)  # no registers spill on an H100


class _Sizes(NamedTuple):
    """Of q [batch queries heads channels], v [batch keys heads width] and what counts [batch lines keys]."""

    batch: int
    queries: int
    keys: int
    heads: int
    channels: int
    width: int
    lines: int


def attention(rate: float, key: Array | None, q: Array, k: Array, v: Array, mask: Array | None) -> Array:
    """softmax(q k^T / sqrt(channels)) v with dropout on the weights, of [batch tokens heads channels].

    The mask [batch 1 queries keys] says which keys count; its batch and queries can be 1. Dropout of a rate above 0
    needs the key, and has the zeros that `hashed_bits` gives for [batch heads queries keys].
    """
    return _attention(rate, q, k, v, _counts(q, k, mask), seeds_of(key, q, k))


def _counts(q: Array, k: Array, mask: Array | None) -> Array:
    mask = jnp.ones((1, 1, 1, 1), bool) if mask is None else mask
    return jnp.broadcast_to(mask[:, 0], (len(q), mask.shape[2], k.shape[1])).astype(jnp.int8)


def seeds_of(key: Array | None, q: Array, k: Array) -> Array:
    """What `forward` takes for seeds."""
    words = jnp.zeros(2, jnp.uint32) if key is None else jax.random.key_data(key).ravel()[np.array([0, -1])]
    (batch, queries, heads, _), keys = q.shape, k.shape[1]
    first = lax.iota(np.uint32, batch * heads) * np.uint32(queries * keys)
    return jnp.concatenate([first[:, None], jnp.broadcast_to(words, (len(first), 2))], 1).reshape(batch, heads, 3)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _attention(rate: float, *given: Array) -> Array:
    return _with_sums(rate, *given)[0]


@partial(jax.jit, static_argnums=0)
def _with_sums(rate: float, *given: Array) -> tuple[Array, Array, Array]:
    return lax.platform_dependent(*given, cuda=partial(attended, rate), default=partial(_plain_with_sums, rate))


@partial(jax.jit, static_argnums=0)
def _gradients(rate: float, *given: Array) -> tuple[Array, Array, Array]:
    return lax.platform_dependent(
        *given, cuda=partial(attended_gradients, rate), default=partial(_plain_gradients, rate)
    )


def _forward(rate: float, *given: Array) -> tuple[Array, tuple[Array, ...]]:
    out, *sums = _with_sums(rate, *given)
    return out, (*given, out, *sums)


def _backward(rate: float, kept: tuple[Array, ...], cotangent: Array) -> tuple[Array | None, ...]:
    *given, out, most, total = kept
    met = jnp.einsum("bqhd,bqhd->bhq", out, cotangent, preferred_element_type=jnp.float32)
    return *_gradients(rate, *given, most, total, met, cotangent), None, None


_attention.defvjp(_forward, _backward)


def plain(rate: float, q: Array, k: Array, v: Array, counts: Array, seeds: Array) -> Array:
    """The same by XLA, for what is compiled for other devices."""
    scores = wide_einsum("bqhd,bkhd->bhqk", q, k) / math.sqrt(q.shape[3])
    weights = jax.nn.softmax(jnp.where(counts[:, None] != 0, scores, _LEAST))
    if rate:
        first, *words = jnp.moveaxis(seeds[..., None, None], 2, 0)
        places = lax.iota(np.uint32, q.shape[1] * k.shape[1]).reshape(q.shape[1], k.shape[1])
        weights = jnp.where(dropped(bits_at(first + places, *words), rate), 0, weights * scale_of_others(rate))
    return jnp.einsum("bhqk,bkhd->bqhd", weights.astype(v.dtype), v)


def _plain_with_sums(rate: float, *given: Array) -> tuple[Array, Array, Array]:
    nothing = jnp.zeros((given[0].shape[0], given[0].shape[2], given[0].shape[1]), jnp.float32)
    return plain(rate, *given), nothing, nothing


def _plain_gradients(rate: float, q: Array, k: Array, v: Array, counts: Array, seeds: Array, *rest: Array) -> Any:
    return jax.vjp(lambda q, k, v: plain(rate, q, k, v, counts, seeds), q, k, v)[1](rest[-1])


def attended(rate: float, *given: Array) -> tuple[Array, Array, Array]:
    """`forward`, divided among devices."""
    rule = "b q h c, b k h c, b k h d, b r k, b h s -> b q h d, b h q, b h q"
    return divisible(partial(forward, rate), rule, _WHOLE)(*given)


def attended_gradients(rate: float, *given: Array) -> tuple[Array, Array, Array]:
    """`backward`, divided among devices."""
    rule = "b q h c, b k h c, b k h d, b r k, b h s, b h q, b h q, b h q, b q h d -> b q h c, b k h c, b k h d"
    return divisible(partial(backward, rate), rule, _WHOLE)(*given)


class _Head:
    """One head of one image: its queries and keys, by blocks of rows and columns of the scores."""

    def __init__(self, rate: float, sizes: _Sizes, refs: tuple[Any, ...]) -> None:
        self.rate, self.sizes, self.at = rate, sizes, pl.program_id(1)
        self.q_ref, self.k_ref, self.v_ref, self.counts_ref, self.seeds_ref = refs
        self.image, self.head = self.at // sizes.heads, self.at % sizes.heads

    def queries(self, ref: Any, rows: Array, width: int) -> Array:
        """Their numbers [rows width], zeros beyond the last query."""
        return self._get(ref, rows, self.sizes.queries, width)

    def keys(self, ref: Any, columns: Array, width: int) -> Array:
        """Their numbers [columns width], zeros beyond the last key."""
        return self._get(ref, columns, self.sizes.keys, width)

    def _get(self, ref: Any, tokens: Array, total: int, width: int) -> Array:
        places, here = self._places(tokens, total, width)
        return triton.load(ref.at[places], mask=here, other=0.0)

    def put(self, ref: Any, tokens: Array, total: int, numbers: Array) -> None:
        """Writes the numbers [tokens width] of those tokens, of which there are so many in all."""
        places, here = self._places(tokens, total, numbers.shape[1])
        triton.store(ref.at[places], numbers.astype(ref.dtype), mask=here)

    def _places(self, tokens: Array, total: int, width: int) -> tuple[Array, Array]:
        first = ((self.image * total + tokens) * self.sizes.heads + self.head) * width
        return first[:, None] + jnp.arange(width, dtype=jnp.int32)[None], (tokens < total)[:, None]

    def counts(self, rows: Array, columns: Array) -> Array:
        """Which keys count [rows columns], or [1 columns] where they do for all queries alike."""
        rows = rows if self.sizes.lines > 1 else jnp.zeros(1, jnp.int32)
        places = ((self.image * self.sizes.lines + rows) * self.sizes.keys)[:, None] + columns[None]
        here = (rows < self.sizes.queries)[:, None] & (columns < self.sizes.keys)[None]
        return triton.load(self.counts_ref.at[places], mask=here, other=0) != 0

    def scores(self, q: Array, k: Array, columns: Array, counts: Array) -> Array:
        """[rows columns]: softmax takes none of those beyond the last key, and all others where no key counts."""
        scores = jnp.where(counts, triton.dot(q, k.T) * (1 / math.sqrt(self.sizes.channels)), _LEAST)
        return jnp.where((columns < self.sizes.keys)[None], scores, -jnp.inf)

    def dropout(self, rows: Array, columns: Array) -> Callable[[Array], Array]:
        """Numbers [rows columns] with its zeros, and as they were where there is no dropout; the scale is for later."""
        if not self.rate:
            return lambda numbers: numbers
        first, *words = (self.seeds_ref[3 * self.at + place] for place in range(3))
        lines = rows.astype(jnp.uint32) * np.uint32(self.sizes.keys) + first
        left_out = dropped(bits_at(lines[:, None] + columns.astype(jnp.uint32)[None], *words), self.rate)
        return lambda numbers: jnp.where(left_out, 0.0, numbers)


class _HeadBack(_Head):
    """A head with what the forward pass has left, and what comes in."""

    def __init__(self, rate: float, sizes: _Sizes, refs: tuple[Any, ...]) -> None:
        super().__init__(rate, sizes, refs[:5])
        self.most_ref, self.total_ref, self.met_ref, self.cotangent_ref = refs[5:]

    def row(self, rows: Array) -> tuple[Array, ...]:
        """Queries and cotangents [rows channels], and sums [rows 1]; beyond the last query all gradients are 0."""
        places, here = self.at * self.sizes.queries + rows, rows < self.sizes.queries
        sums = ((self.most_ref, 0.0), (self.total_ref, 1.0), (self.met_ref, 0.0))
        query = self.queries(self.q_ref, rows, self.sizes.channels)
        cotangent = self.queries(self.cotangent_ref, rows, self.sizes.width)
        return query, cotangent, *(triton.load(ref.at[places], mask=here, other=other)[:, None] for ref, other in sums)

    def column(self, columns: Array) -> tuple[Array, Array]:
        """Keys and values [columns channels]."""
        key = self.keys(self.k_ref, columns, self.sizes.channels)
        return key, self.keys(self.v_ref, columns, self.sizes.width)

    def slopes(self, rows: Array, row: tuple, columns: Array, column: tuple) -> tuple[Array, Array]:
        """The weights after dropout, but for its scale, and the gradients to the scores [rows columns]."""
        (query, cotangent, most, total, met), (key, value) = row, column
        counts, dropout = self.counts(rows, columns), self.dropout(rows, columns)
        weights = jnp.exp(self.scores(query, key, columns, counts) - most) / total
        by_weights = dropout(triton.dot(cotangent, value.T)) * scale_of_others(self.rate)
        return dropout(weights), jnp.where(counts, weights * (by_weights - met), 0.0)


def _block(size: int, number: Any) -> Array:
    return number * size + jnp.arange(size, dtype=jnp.int32)


def _every(total: int, size: int, body: Callable[[Array, Any], Any], start: Any) -> Any:
    """What `body(places, carry)` makes of it for one block after the other."""
    return lax.fori_loop(0, pl.cdiv(total, size), lambda number, carry: body(_block(size, number), carry), start)


def forward(
    rate: float, q: Array, k: Array, v: Array, counts: Array, seeds: Array, *, blocks: Blocks = FORWARD, **options: Any
) -> tuple[Array, Array, Array]:
    """The mixtures [batch queries heads width] and each softmax's largest score and sum [batch heads queries].

    Of `counts` [batch queries keys] or [batch 1 keys] those other than 0 count. `seeds` are for each head its first
    place among all weights, and the words of a key. Other `blocks` are for measurements; `interpret` is for CPUs.
    """
    sizes = _sizes(q, k, v, counts)

    def kernel(*refs: Any) -> None:
        head, (out_ref, most_ref, total_ref) = _Head(rate, sizes, refs[:5]), refs[5:]
        rows = _block(blocks.queries, pl.program_id(0))
        query = head.queries(head.q_ref, rows, sizes.channels)

        def more(columns: Array, carry: tuple) -> tuple:
            mixed, most, total = carry
            key = head.keys(head.k_ref, columns, sizes.channels)
            scores = head.scores(query, key, columns, head.counts(rows, columns))
            larger = jnp.maximum(most, scores.max(1))
            before, weights = jnp.exp(most - larger), jnp.exp(scores - larger[:, None])
            total = total * before + weights.sum(1)
            value = head.keys(head.v_ref, columns, sizes.width)
            weights = head.dropout(rows, columns)(weights).astype(value.dtype)
            return mixed * before[:, None] + triton.dot(weights, value), larger, total

        mixed = jnp.zeros((blocks.queries, sizes.width), jnp.float32)
        least, none = jnp.full(blocks.queries, -jnp.inf, jnp.float32), jnp.zeros(blocks.queries, jnp.float32)
        mixed, most, total = _every(sizes.keys, blocks.keys, more, (mixed, least, none))
        head.put(out_ref, rows, sizes.queries, mixed * (scale_of_others(rate) / total)[:, None])
        for ref, numbers in ((most_ref, most), (total_ref, total)):
            triton.store(ref.at[head.at * sizes.queries + rows], numbers, mask=rows < sizes.queries)

    sums = jax.ShapeDtypeStruct((sizes.batch * sizes.heads * sizes.queries,), jnp.float32)
    out = jax.ShapeDtypeStruct((sizes.batch * sizes.queries * sizes.heads * sizes.width,), v.dtype)
    grid = pl.cdiv(sizes.queries, blocks.queries), sizes.batch * sizes.heads
    call = _call(kernel, "attention", grid, (out, sums, sums), 5, blocks, options)
    mixed, *found = call(*(array.ravel() for array in (q, k, v, counts, seeds)))
    by_row = (one.reshape(sizes.batch, sizes.heads, sizes.queries) for one in found)
    return mixed.reshape(*q.shape[:3], sizes.width), *by_row


def backward(
    rate: float,
    q: Array,
    k: Array,
    v: Array,
    counts: Array,
    seeds: Array,
    most: Array,
    total: Array,
    met: Array,
    cotangent: Array,
    *,
    by_queries: Blocks = BY_QUERIES,
    by_keys: Blocks = BY_KEYS,
    **options: Any,
) -> tuple[Array, Array, Array]:
    """The gradients of `forward` to q, k and v from its sums; `met` is the cotangent's product with each mixture."""
    sizes = _sizes(q, k, v, counts)
    share = 1 / math.sqrt(sizes.channels)

    def query_kernel(*refs: Any) -> None:
        head, rows = _HeadBack(rate, sizes, refs[:9]), _block(by_queries.queries, pl.program_id(0))
        row = head.row(rows)

        def more(columns: Array, by_query: Array) -> Array:
            column = head.column(columns)
            _, by_scores = head.slopes(rows, row, columns, column)
            return by_query + triton.dot(by_scores.astype(q.dtype), column[0])

        start = jnp.zeros((by_queries.queries, sizes.channels), jnp.float32)
        head.put(refs[9], rows, sizes.queries, _every(sizes.keys, by_queries.keys, more, start) * share)

    def key_kernel(*refs: Any) -> None:
        head, columns = _HeadBack(rate, sizes, refs[:9]), _block(by_keys.keys, pl.program_id(0))
        column = head.column(columns)

        def more(rows: Array, carry: tuple) -> tuple:
            by_key, by_value = carry
            row = head.row(rows)
            weights, by_scores = head.slopes(rows, row, columns, column)
            by_value += triton.dot(weights.astype(v.dtype).T, row[1])
            return by_key + triton.dot(by_scores.astype(q.dtype).T, row[0]), by_value

        start = tuple(jnp.zeros((by_keys.keys, width), jnp.float32) for width in (sizes.channels, sizes.width))
        by_key, by_value = _every(sizes.queries, by_keys.queries, more, start)
        head.put(refs[9], columns, sizes.keys, by_key * share)
        head.put(refs[10], columns, sizes.keys, by_value * scale_of_others(rate))

    given = [array.ravel() for array in (q, k, v, counts, seeds, most, total, met, cotangent)]
    outs = [jax.ShapeDtypeStruct((array.size,), array.dtype) for array in (q, k, v)]
    heads = sizes.batch * sizes.heads
    grid = pl.cdiv(sizes.queries, by_queries.queries), heads
    (by_q,) = _call(query_kernel, "attention_by_queries", grid, outs[:1], 9, by_queries, options)(*given)
    grid = pl.cdiv(sizes.keys, by_keys.keys), heads
    by_k, by_v = _call(key_kernel, "attention_by_keys", grid, outs[1:], 9, by_keys, options)(*given)
    return by_q.reshape(q.shape), by_k.reshape(k.shape), by_v.reshape(v.shape)


def _sizes(q: Array, k: Array, v: Array, counts: Array) -> _Sizes:
    return _Sizes(q.shape[0], q.shape[1], k.shape[1], q.shape[2], q.shape[3], v.shape[3], counts.shape[1])


def _call(
    kernel: Callable, name: str, grid: tuple[int, int], outs: Any, inputs: int, blocks: Blocks, options: Any
) -> Callable:
    return pl.pallas_call(
        kernel,
        out_shape=outs,
        in_specs=[pl.no_block_spec] * inputs,
        out_specs=[pl.no_block_spec] * len(outs),
        grid=grid,
        compiler_params=triton.CompilerParams(num_warps=blocks.warps, num_stages=blocks.stages),
        name=name,
        **options,
    )
