"""The leaves of a state by path: host arrays and their entries on the way to the disk, on devices on the way back."""

import zlib
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vitjax.checkpoints.folders import Entry, Record
from vitjax.structs import PyTree


def by_path(tree: PyTree) -> dict[str, Any]:
    """The leaves of any pytree by path, 'optimizer/1/mu/decoder/norm/scale'."""
    return {_name(path): leaf for path, leaf in jax.tree.leaves_with_path(tree)}


def empty_paths(tree: PyTree) -> list[str]:
    """The paths of parts that hold no leaf, such as an empty dict or the state of an optimizer that has none."""
    nodes = jax.tree.leaves_with_path(tree, is_leaf=lambda node: not jax.tree.leaves(node))
    return [_name(path) for path, node in nodes if not jax.tree.leaves(node)]


def described(leaf: Any) -> Entry:
    """Shape and dtype of an array, of a number, or of what only describes an array."""
    if _is_key(leaf):
        return Entry(tuple(leaf.shape), str(leaf.dtype))
    dtype = leaf.dtype if hasattr(leaf, "dtype") else np.asarray(leaf).dtype
    return Entry(tuple(np.shape(leaf)), np.dtype(dtype).name)


def recorded(
    step: int, state: PyTree, metrics: Mapping[str, Any], notes: Mapping[str, Any]
) -> tuple[Record, dict[str, np.ndarray]]:
    """The record of a state, and its leaves as NumPy arrays, which may share memory with it; of random keys the data.

    Arrays without elements are left out, for Orbax takes none: their record says all there is to say.

    Raises:
        TypeError: a leaf is neither array nor number.
    """
    leaves = by_path(state)
    plain = {path: jax.random.key_data(leaf) if _is_key(leaf) else leaf for path, leaf in leaves.items()}
    for leaf in plain.values():
        if isinstance(leaf, jax.Array):
            leaf.copy_to_host_async()
    arrays = {path: _host_array(path, leaf) for path, leaf in plain.items()}
    entries = {}
    for (path, leaf), crc32 in zip(leaves.items(), checksums(arrays.values()), strict=True):
        key = str(jax.random.key_impl(leaf)) if _is_key(leaf) else None
        entries[path] = replace(described(leaf), crc32=crc32, key=key)
    scores = {name: float(value) for name, value in metrics.items()}
    record = Record(entries, empty_paths(state), scores, dict(notes), step)
    return record, {path: array for path, array in arrays.items() if array.size}


def checksums(arrays: Iterable[np.ndarray]) -> list[int]:
    """CRC-32 of the bytes of each array in C order."""
    with ThreadPoolExecutor() as pool:
        return list(pool.map(_checksum, arrays))


def as_saved(array: np.ndarray, entry: Entry) -> np.ndarray | jax.Array:
    """A host array as the leaf that it was: the array itself, or a random key."""
    return jax.random.wrap_key_data(jnp.asarray(array), impl=entry.key) if entry.key else array


def like_leaf(array: np.ndarray, entry: Entry, like: Any) -> Any:
    """The array as what `like` is: on its devices, a host array, a number, or a random key."""
    if entry.key:
        return jax.random.wrap_key_data(_placed(array, like), impl=entry.key)
    if isinstance(like, jax.Array | jax.ShapeDtypeStruct):
        return _placed(array, like)
    return array if isinstance(like, np.ndarray) else type(like)(array.item())


def _name(path: tuple[Any, ...]) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")


def _is_key(leaf: Any) -> bool:
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _host_array(path: str, leaf: Any) -> np.ndarray:
    array = np.asarray(leaf)
    if array.dtype.kind in "OUSMm":
        raise TypeError(f"{path} is a {type(leaf).__name__}; a checkpoint holds arrays and numbers")
    return array


def _checksum(array: np.ndarray) -> int:
    return zlib.crc32(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)


def _placed(array: np.ndarray, like: Any) -> jax.Array:
    # What was bound to no device must not come back bound to one: it would not mix with arrays on a mesh.
    sharding = like.sharding if getattr(like, "committed", True) else None
    if sharding is None:
        return jnp.asarray(array)
    return jax.make_array_from_callback(array.shape, sharding, lambda index: np.asarray(array[index]))
