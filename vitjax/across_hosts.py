"""Arrays that go from the first host to all, or from all to each; for `vitjax.placement`, where there are several."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

LONG = 24 * 3600 * 1000  # milliseconds; a host that is gone is noticed by its silence


def coordination() -> Any:
    """JAX's own view of the hosts, for which it has no public name: their coordinator and the talk with it."""
    from jax._src import distributed

    return distributed.global_state


def meet() -> None:
    """Waits until all hosts are here: in an exchange between devices they would be waited for half a minute only."""
    coordination().client.wait_at_barrier("vitjax/meeting", LONG)


def after_all_have_compiled(step: Any) -> Callable[..., Any]:
    """The compiled function, which is first called for each size when every host has a program for it."""
    known = set[tuple[tuple[int, ...], ...]]()

    def call(*given: Any) -> Any:
        shapes = tuple(leaf.shape for leaf in jax.tree.leaves(given))
        if shapes not in known:
            step.lower(*given).compile()
            meet()
            known.add(shapes)
        return step(*given)

    return call


def placed_everywhere(state: Any, placement: Any) -> Any:
    """What the first host has, placed on the devices of all hosts; the others give something of the same shapes.

    `placement` is a sharding, or a tree of them. Bytes are sent, so that none changes.
    """
    meet()
    return jax.tree.map(_placed, state, jax.tree.broadcast(placement, state))


def on_this_host(state: Any) -> Any:
    """The state as arrays that this host has whole; all hosts must ask for it at once."""
    return jax.tree.map(_local, state)


def _placed(leaf: Any, sharding: Any) -> jax.Array:
    if _is_key(leaf):
        return jax.random.wrap_key_data(_placed(jax.random.key_data(leaf), sharding), impl=jax.random.key_impl(leaf))
    array = np.ascontiguousarray(leaf)
    sent = multihost_utils.broadcast_one_to_all(array.reshape(-1).view(np.uint8)) if array.size else array
    whole = np.asarray(sent).view(array.dtype).reshape(np.shape(leaf))
    return jax.make_array_from_callback(whole.shape, sharding, lambda index: whole[index])


def _local(leaf: Any) -> Any:
    if not isinstance(leaf, jax.Array) or leaf.is_fully_addressable:
        return leaf
    if _is_key(leaf):
        return jax.random.wrap_key_data(_local(jax.random.key_data(leaf)), impl=jax.random.key_impl(leaf))
    if leaf.is_fully_replicated:
        return leaf.addressable_data(0)
    return multihost_utils.process_allgather(leaf, tiled=True)


def _is_key(leaf: Any) -> bool:
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
