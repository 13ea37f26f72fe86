"""The only file that knows devices: mesh, placement and compilation."""

import contextlib
import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Literal

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from vitjax.errors import FieldError
from vitjax.structs import Assignment, Predictions, Targets

Precision = Literal["default", "high", "highest"]
"""Of float32 matrix products on accelerators; CPUs compute them in full always."""


def data_mesh(devices: Sequence[jax.Device] | None = None) -> Mesh:
    """These devices, or all of all hosts, in a row, along which the batch is divided."""
    devices = jax.devices() if devices is None else devices
    return jax.make_mesh((len(devices),), ("data",), axis_types=(AxisType.Auto,), devices=devices)


def replicated(mesh: Mesh) -> NamedSharding:
    """The placement of what every device holds whole."""
    return NamedSharding(mesh, PartitionSpec())


def divided(mesh: Mesh, axis: int = 0) -> NamedSharding:
    """The placement of what is divided along its first axis, or another."""
    return NamedSharding(mesh, PartitionSpec(*[None] * axis, "data"))


def check_batch_size(batch_size: int, mesh: Mesh, name: str = "batch_size") -> None:
    """Raises a FieldError where the batch cannot be divided among the devices."""
    if batch_size % mesh.size:
        raise FieldError(f"{name} must be divisible by the {mesh.size} devices; got {batch_size}.")


def place_batch(batch: Any, mesh: Mesh) -> Any:
    """This host's part of a batch as global arrays, divided among the devices."""
    sharding = divided(mesh)
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, np.asarray(x)), batch)


def hosts_of(mesh: Mesh) -> tuple[int, int]:
    """The number of this host among those that have devices of the mesh, and how many these are."""
    hosts = sorted({device.process_index for device in mesh.devices.flat})
    return hosts.index(jax.process_index()), len(hosts)


def place_state(state: Any, mesh: Mesh, placement: Any = None) -> Any:
    """A state held whole by every device, or placed as the placement says; of several hosts that of the first."""
    placement = replicated(mesh) if placement is None else placement
    if hosts_of(mesh)[1] > 1 and all(getattr(leaf, "is_fully_addressable", True) for leaf in jax.tree.leaves(state)):
        from vitjax.across_hosts import placed_everywhere

        return placed_everywhere(state, placement)
    return jax.device_put(state, placement)


def compiled(
    function: Callable,
    mesh: Mesh,
    *,
    batches: Collection[int] = (),
    consumed: tuple[int, ...] = (),
    placed: Mapping[int, Any] = {},
    gives: Any = None,
) -> Any:
    """The function, by `jax.jit`, for the mesh: arguments `batches` are divided, all else is whole, what it gives too.

    Other arguments are placed as `placed` says, and what it gives as `gives` does. What is given as the arguments
    `consumed` must not be used again.
    """
    whole, arguments = replicated(mesh), range(len(inspect.signature(function).parameters))
    placements = tuple(divided(mesh) if place in batches else placed.get(place, whole) for place in arguments)
    answer = whole if gives is None else gives
    return jax.jit(function, in_shardings=placements, out_shardings=answer, donate_argnums=consumed)


def matching_per_device(matching: Callable, mesh: Mesh) -> Callable[[Predictions, Targets], Assignment]:
    """`matching` run by each device on its own images.

    Left to automatic partitioning, the solver's loops would hold an all-reduce in every iteration.
    """
    if mesh.size == 1:
        return matching
    layered, batched = PartitionSpec(None, "data"), PartitionSpec("data")
    return jax.shard_map(matching, mesh=mesh, in_specs=(layered, batched), out_specs=layered, check_vma=False)


def matmul_precision(precision: Precision | None) -> contextlib.AbstractContextManager:
    """Within it, float32 matrix products that are traced have this precision; with None that of JAX's own setting."""
    return contextlib.nullcontext() if precision is None else jax.default_matmul_precision(precision)
