"""The state of a training run: a pytree that a step maps to the next."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax import struct
from jax import Array

from vitjax.runs.optimizer import AdamW
from vitjax.structs import Images


@struct.dataclass
class TrainState:
    """Step, parameters (those that train apart from those that do not), optimizer state and random key.

    `average` is the running mean of the trainable parameters, None where the run keeps none.
    """

    step: Array
    trainable: Any
    frozen: Any
    constants: Any
    optimizer: Any
    key: Array
    average: Any = None


def init(model: nn.Module, seed: int) -> dict[str, Any]:
    """`model.init` on an image of 64 pixels; the shapes of variables do not depend on it."""
    images = Images(jnp.zeros((1, 64, 64, 3)), jnp.ones((1, 64, 64), bool))
    return model.init(jax.random.key(seed), images, train=False)  # type: ignore[return-value]


def initial_state(
    variables: dict[str, Any],
    optimizer: AdamW,
    transformation: optax.GradientTransformation,
    seed: int,
    *,
    average: bool = False,
) -> TrainState:
    """The state before the first step; with `average` the running mean begins at the first weights."""
    constants = {name: tree for name, tree in variables.items() if name != "params"}
    trainable, frozen = optimizer.partition(variables["params"])
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        trainable=trainable,
        frozen=frozen,
        constants=constants,
        optimizer=transformation.init(trainable),
        key=jax.random.fold_in(jax.random.key(seed), 1),
        average=jax.tree.map(jnp.copy, trainable) if average else None,  # a step consumes both, so they share nothing
    )


def averaged(average: Any, trainable: Any, step: Array, decay: float) -> Any:
    """The running mean after a step; it forgets faster in the first steps, or it would long hold random weights."""
    keep = jnp.minimum(decay, (1 + step) / (10 + step))
    return jax.tree.map(lambda mean, new: keep * mean + (1 - keep) * new, average, trainable)


def variables_of(state: TrainState, optimizer: AdamW) -> dict[str, Any]:
    """What `model.apply` takes to predict: with the averaged parameters where the run keeps them."""
    trainable = state.trainable if state.average is None else state.average
    return {"params": optimizer.merge(trainable, state.frozen), **state.constants}
