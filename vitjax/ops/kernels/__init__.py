"""Kernels for Nvidia GPUs of what takes XLA many steps, or large ones; `vitjax.ops` has the same for everything else.

They are written in Pallas and compiled by Triton, which a later JAX may be without. VITJAX_KERNELS=0 in the environment
leaves them out.
"""

import contextlib
import math
import os
from collections.abc import Iterator
from contextvars import ContextVar
from importlib.util import find_spec
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

_LEFT_OUT = ContextVar("_LEFT_OUT", default=False)
AMPERE = 8
"""The least compute capability that they have been written for."""
MOST_COLUMNS = 2048
"""Of an assignment that a kernel is given."""


def kernels_serve() -> bool:
    """Whether a program that is traced now may have them: it will run on such a GPU of this machine."""
    if jax.default_backend() != "gpu" or _LEFT_OUT.get() or os.environ.get("VITJAX_KERNELS") == "0":
        return False
    if find_spec("jax.experimental.pallas.triton") is None:
        return False
    device = jax.devices()[0]
    return device.device_kind.startswith("NVIDIA") and float(device.compute_capability) >= AMPERE


def fit(value: tuple[Any, ...], weights: tuple[Any, ...]) -> bool:
    """Whether there is something to sample, of sizes that are known, and 32 bits can count all numbers.

    The shapes are those of values [batch tokens heads channels] and weights [batch queries heads levels points].
    """
    sizes = value, weights, (*weights[:3], value[3])
    known = all(isinstance(side, int) for size in sizes for side in size)
    return known and all(0 < math.prod(size) < 2**31 for size in sizes)


def attend(q: Array, k: Array, v: Array) -> bool:
    """Whether attention of these [batch tokens heads channels] is for kernels: narrow numbers that 32 bits can count.

    In float32 they would be less exact than what XLA makes of it.
    """
    if not kernels_serve() or any(x.dtype not in (jnp.bfloat16, jnp.float16) for x in (q, k, v)):
        return False
    (batch, queries, heads, channels), (_, keys, _, width) = q.shape, v.shape
    if not all(isinstance(size, int) and size > 0 for size in (*q.shape, *v.shape)):
        return False
    places = max(q.size, k.size, v.size, batch * queries * keys)
    few = batch * heads < 2**16 and places < 2**31 and batch * heads * queries * keys < 2**32
    return few and {channels, width} <= {16, 32, 64, 128}


@contextlib.contextmanager
def without_kernels() -> Iterator[None]:
    """Within it, functions that have not been traced before have none: they can be written down, and run elsewhere."""
    token = _LEFT_OUT.set(True)
    try:
        yield
    finally:
        _LEFT_OUT.reset(token)
