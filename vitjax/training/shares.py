"""A state of which every device has a share: where its arrays lie, and how a step gets them whole."""

import dataclasses
import math
from typing import Any

import jax
from jax import Array
from jax.sharding import Mesh

from vitjax.placement import divided, replicated
from vitjax.structs import PyTree
from vitjax.training.state import TrainState

_SMALL = 1024  # numbers; to divide an array of fewer saves nothing that counts


def in_shares(state: TrainState, mesh: Mesh) -> TrainState:
    """The placement of a state of which parameters, optimizer state and average are divided among the devices.

    An array is divided along the longest axis that can be; small ones, and those without such an axis, are whole.
    """

    def of(leaf: Any) -> Any:
        axes = [axis for axis, length in enumerate(leaf.shape) if length % mesh.size == 0]
        if math.prod(leaf.shape) < _SMALL or not axes or mesh.size == 1:
            return replicated(mesh)
        return divided(mesh, max(axes, key=lambda axis: leaf.shape[axis]))

    fields = {name: getattr(state, name) for name in ("trainable", "frozen", "optimizer", "average")}
    parts: Any = jax.tree.map(of, fields)
    return dataclasses.replace(jax.tree.map(lambda leaf: replicated(mesh), state), **parts)


def gathered(tree: PyTree, placement: PyTree) -> Any:
    """Within a compiled function, arrays as every device needs them, whole; their gradients are in shares again."""

    def one(leaf: Array, share: Any) -> Array:
        @jax.custom_vjp
        def whole(x: Array) -> Array:
            return jax.lax.with_sharding_constraint(x, replicated(share.mesh))

        def backward(_: None, gradient: Array) -> tuple[Array]:
            return (jax.lax.with_sharding_constraint(gradient, share),)

        whole.defvjp(lambda x: (whole(x), None), backward)
        return whole(leaf)

    return jax.tree.map(one, tree, placement)
