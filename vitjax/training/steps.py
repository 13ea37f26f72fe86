"""One training step as a pure function; `vitjax.placement` compiles it."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array, lax

from vitjax.runs.optimizer import AdamW
from vitjax.structs import LOGGED, Batch, Mean, Terms
from vitjax.tasks.objective import Evaluated, Objective
from vitjax.training.state import TrainState, averaged


def metrics_of(terms: Terms) -> dict[str, Array]:
    """One scalar per term: `box` for the last decoder layer, `box_0`, `box_1`, ... for those before it."""
    metrics = {}
    for name, mean in terms.items():
        *auxiliary, last = mean.value
        metrics[name] = last
        if not name.endswith(LOGGED):
            metrics |= {f"{name}_{layer}": value for layer, value in enumerate(auxiliary)}
    return metrics


def make_train_step(
    objective: Objective,
    optimizer: AdamW,
    transformation: optax.GradientTransformation,
    *,
    micro_batches: int = 1,
    average: float | None = None,
) -> Callable[[TrainState, Batch], tuple[TrainState, dict[str, Array]]]:
    """The function from (state, batch) to (next state, scalar metrics); gradients of the trainable subset only.

    With several micro-batches their gradients are computed one after the other and averaged: memory for one of them is
    enough. Each has a loss and random numbers of its own. `average` is the decay of the running mean of parameters.
    """

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, Array]]:
        key = jax.random.fold_in(state.key, state.step)

        def loss(trainable: Any, constants: Any, batch: Batch, key: Array) -> tuple[Array, Evaluated]:
            return objective({"params": optimizer.merge(trainable, state.frozen), **constants}, batch, key)

        gradient = jax.value_and_grad(loss, has_aux=True)
        if micro_batches == 1:
            (total, (terms, changed)), gradients = gradient(state.trainable, state.constants, batch, key)
            constants = {**state.constants, **changed}
        else:
            total, terms, constants, gradients = _accumulate(gradient, state, batch, key, micro_batches)
        updates, optimizer_state = transformation.update(gradients, state.optimizer, state.trainable)
        metrics = {"loss": total, **metrics_of(terms), "gradient_norm": optax.tree.norm(gradients)}
        trainable = optax.apply_updates(state.trainable, updates)
        following = dataclasses.replace(
            state,
            step=state.step + 1,
            trainable=trainable,
            constants=constants,
            optimizer=optimizer_state,
            average=None if average is None else averaged(state.average, trainable, state.step, average),
        )
        return following, metrics

    return step


def _accumulate(
    gradient: Callable, state: TrainState, batch: Batch, key: Array, micro_batches: int
) -> tuple[Array, Terms, Any, Any]:
    """Mean loss, summed terms, last constants and mean gradients of the micro-batches, one at a time."""

    def split(rows: Array) -> Array:
        # Part i has the rows i, i + micro_batches, ..., so that each device keeps its own rows of every part.
        return jnp.moveaxis(rows.reshape(-1, micro_batches, *rows.shape[1:]), 1, 0)

    def add(carried: tuple[Any, Any], one: tuple[Batch, Array]) -> tuple[tuple[Any, Any], tuple[Array, Terms]]:
        constants, gathered = carried
        (total, (terms, changed)), gradients = gradient(state.trainable, constants, *one)
        gathered = jax.tree.map(lambda sum_, new: sum_ + new / micro_batches, gathered, gradients)
        return ({**constants, **changed}, gathered), (total, terms)

    nothing = jax.tree.map(jnp.zeros_like, state.trainable)
    parts = (jax.tree.map(split, batch), jax.random.split(key, micro_batches))
    (constants, gradients), (totals, terms) = lax.scan(add, (state.constants, nothing), parts)
    summed = {name: Mean(mean.total.sum(0), mean.count.sum(0)) for name, mean in terms.items()}
    return totals.mean(), summed, constants, gradients
