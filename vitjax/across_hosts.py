"""Arrays that go from the first host to all, or from all to each; for `vitjax.placement`, where there are several."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils


def placed_everywhere(state: Any, placement: Any) -> Any:
    """What the first host has, placed on the devices of all hosts; the others give something of the same shapes.

    `placement` is a sharding, or a tree of them. Bytes are sent, so that none changes.
    """
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
