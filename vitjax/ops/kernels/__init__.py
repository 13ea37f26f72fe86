"""Kernels for Nvidia GPUs of what takes XLA many steps, or large ones; `vitjax.ops` has the same for everything else.

They are written in Pallas and compiled by Triton, which JAX 0.12 may be without.
"""

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from importlib.util import find_spec

import jax
from jax import Array, lax

_LEFT_OUT = ContextVar("_LEFT_OUT", default=False)
AMPERE = 8
"""The least compute capability that they have been written for."""
ON_CHIP = 2048
"""The most columns of an assignment that a multiprocessor's registers hold."""


def kernels_serve() -> bool:
    """Whether a program that is traced now may have them: it will run on such a GPU of this machine."""
    if jax.default_backend() != "gpu" or _LEFT_OUT.get():
        return False
    if find_spec("jax.experimental.pallas.triton") is None:
        return False
    capability = jax.devices()[0].compute_capability  # an AMD GPU has a name
    return capability[:1].isdigit() and float(capability) >= AMPERE


def assigned_or(loops: Callable[[Array, Array], Array], cost: Array, count: Array) -> Array:
    """`assigned` where the kernel serves, else what the loops give."""
    rows, columns = cost.shape
    if not (0 < rows and columns <= ON_CHIP and kernels_serve()):
        return loops(cost, count)
    from vitjax.ops.kernels.assignment import assigned

    return lax.platform_dependent(cost, count, cuda=assigned, default=loops)


@contextlib.contextmanager
def without_kernels() -> Iterator[None]:
    """Within it, programs that are traced have none: they can be written down, and run elsewhere."""
    token = _LEFT_OUT.set(True)
    try:
        yield
    finally:
        _LEFT_OUT.reset(token)
