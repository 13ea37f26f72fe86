"""The state of a training run: a pytree that a step maps to the next."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax import struct
from jax import Array

from vitjax.structs import Images
from vitjax.training.optimizer import AdamW


@struct.dataclass
class TrainState:
    """Step, parameters (those that train apart from those that do not), optimizer state and random key."""

    step: Array
    trainable: Any
    frozen: Any
    constants: Any
    optimizer: Any
    key: Array


def initial_variables(model: nn.Module, seed: int, side: int = 64) -> dict[str, Any]:
    """Freshly drawn variables; their shapes do not depend on the image size, so a small one is traced."""
    images = Images(jnp.zeros((1, side, side, 3)), jnp.ones((1, side, side), bool))
    key = jax.random.key(seed)
    return jax.jit(lambda: model.init(key, images, train=False))()


def initial_state(
    variables: dict[str, Any], optimizer: AdamW, transformation: optax.GradientTransformation, seed: int
) -> TrainState:
    """The state before the first step."""
    constants = {name: tree for name, tree in variables.items() if name != "params"}
    trainable, frozen = optimizer.partition(variables["params"])
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        trainable=trainable,
        frozen=frozen,
        constants=constants,
        optimizer=transformation.init(trainable),
        key=jax.random.fold_in(jax.random.key(seed), 1),
    )


def variables_of(state: TrainState, optimizer: AdamW) -> dict[str, Any]:
    """What `model.apply` takes."""
    return {"params": optimizer.merge(state.trainable, state.frozen), **state.constants}
