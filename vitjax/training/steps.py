"""One training step, at once or in parts, as pure functions; `vitjax.placement` compiles them."""

import dataclasses
import operator
from collections.abc import Callable, Iterator, Sequence
from functools import partial, reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.sharding import Mesh

from vitjax.placement import compiled, replicated
from vitjax.runs.optimizer import AdamW, global_norm
from vitjax.structs import LOGGED, Batch, PyTree, Terms
from vitjax.tasks.objective import Evaluated, Objective
from vitjax.training.state import TrainState, averaged

Metrics = dict[str, Array]
UNCOUNTED = ("class_error",)
"""Metrics that are NaN by right where there is nothing to count, as in a batch without objects."""


def metrics_of(terms: Terms) -> Metrics:
    """One scalar per term: `box` for the last decoder layer, `box_0`, `box_1`, ... for those before it."""
    metrics = {}
    for name, mean in terms.items():
        *auxiliary, last = mean.value
        metrics[name] = last
        if not name.endswith(LOGGED):
            metrics |= {f"{name}_{layer}": value for layer, value in enumerate(auxiliary)}
    return metrics


def divided_rows(batch: Batch, parts: int) -> list[Batch]:
    """A batch on the host in parts: rows 0, parts, 2 parts, ..., then 1, ..., so that each device has its own rows."""
    return [jax.tree.map(operator.itemgetter(slice(part, None, parts)), batch) for part in range(parts)]


class Step:
    """A compiled step: from a state, and the parts of a batch, one or more, to the next state and scalar metrics.

    The state must not be used again.
    """

    def __init__(self, pieces: "_Pieces", mesh: Mesh) -> None:
        """Compiles nothing yet; the first parts of each size do."""
        whole = replicated(mesh)
        state: Any = whole if pieces.shares is None else pieces.shares
        sums: Any = whole if pieces.shares is None else _Gathered(state.trainable, whole)
        self._whole = compiled(pieces.whole, mesh, batches=(1,), consumed=(0,), placed={0: state}, gives=(state, whole))
        self._count = compiled(pieces.count, mesh, batches=(1,), placed={0: state})
        self._nothing = compiled(pieces.nothing, mesh, placed={0: state}, gives=sums)
        part: Any = {"placed": {0: sums, 1: state}, "gives": (sums, whole)}
        self._add = compiled(pieces.add, mesh, batches=(2,), consumed=(0,), **part)
        self._summed = compiled(_sum, mesh)
        self._apply = compiled(pieces.apply, mesh, consumed=(0,), placed={0: state, 1: sums}, gives=(state, whole))

    def __call__(self, state: TrainState, parts: Sequence[Batch]) -> tuple[TrainState, Metrics]:
        """The step."""
        if len(parts) == 1:
            return self._whole(state, parts[0])
        counts = self._counts(operator.call, state, parts)
        gathered, terms = self._nothing(state), []
        for place, part in enumerate(parts):
            gathered, found = self._add(gathered, state, part, np.int32(place), counts)
            terms.append(found)
        return self._apply(state, gathered, reduce(self._summed, terms))

    def traced(self, state: TrainState, batch: Batch) -> Any:
        """The program of the step for a batch as a whole, traced by JAX and not yet lowered."""
        return self._whole.trace(state, batch)

    def lowered(self, state: TrainState, parts: Sequence[Batch]) -> Iterator[Any]:
        """The programs of the step, ready to be compiled: one for each part, then the update; the state stays as it is.

        It is the step's own program, which then finds it compiled: of arrays, and of shapes that have a placement.
        """
        if len(parts) == 1:
            yield self.traced(state, parts[0]).lower()
            return
        is_shaped = not isinstance(jax.tree.leaves(parts)[0], Array)
        call: Any = (lambda program, *given: program.eval_shape(*given)) if is_shaped else operator.call
        counts, gathered = self._counts(call, state, parts), call(self._nothing, state)
        given = [(gathered, state, part, np.int32(place), counts) for place, part in enumerate(parts)]
        yield from (self._add.lower(*each) for each in given)
        yield self._apply.lower(state, *self._add.eval_shape(*given[0]))

    def _counts(self, call: Callable, state: TrainState, parts: Sequence[Batch]) -> Any:
        found = [call(self._count, state, part, np.int32(place)) for place, part in enumerate(parts)]
        return reduce(partial(call, self._summed), found)


def make_train_step(
    objective: Objective,
    optimizer: AdamW,
    transformation: optax.GradientTransformation,
    mesh: Mesh,
    *,
    average: float | None = None,
    skips: bool = False,
    shares: TrainState | None = None,
) -> Step:
    """The compiled step that moves the trainable subset; `average` is the decay of the running mean of parameters.

    `shares` is the placement of the arrays of a state of which each device has a share, None where all have it whole.

    Of a batch in parts the gradients are computed part by part and added up, and memory for one part is enough. Every
    mean of the loss is divided by the count of the whole batch, so the parts together are the step of the whole; they
    may be of different sizes. Each has random numbers of its own, and sees the statistics that the one before it left.
    With `skips` a step whose metrics are not all finite changes nothing but the number of the step.
    """
    objective = dataclasses.replace(objective, evaluate=jax.jit(objective.evaluate))  # traced once for counts and step
    return Step(_Pieces(objective, optimizer, transformation, average, skips, shares), mesh)


class _Gathered(NamedTuple):
    """The gradients of some parts added up, and the collections as the last of them left them."""

    gradients: PyTree
    constants: PyTree


@dataclasses.dataclass(frozen=True)
class _Pieces:
    """What a step is made of."""

    objective: Objective
    optimizer: AdamW
    transformation: optax.GradientTransformation
    average: float | None
    skips: bool
    shares: TrainState | None

    def whole(self, state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        """The step on a whole batch."""
        return self.apply(state, *self._gradients(state, state.constants, batch, _key(state)))

    def count(self, state: TrainState, batch: Batch, place: Array) -> dict[str, Array]:
        """What the means of a part are divided by.

        As a rule the targets alone tell, and nothing of the model is left in the compiled program.
        """
        variables = self._variables(state, state.trainable, state.constants)
        evaluated = self.objective.evaluate(variables, batch, jax.random.fold_in(_key(state), place))
        return {name: mean.count for name, mean in evaluated.terms.items()}

    def nothing(self, state: TrainState) -> _Gathered:
        """What is gathered before the first part."""
        return _Gathered(jax.tree.map(jnp.zeros_like, state.trainable), state.constants)

    def add(
        self, sums: _Gathered, state: TrainState, batch: Batch, place: Array, counts: dict[str, Array]
    ) -> tuple[_Gathered, Terms]:
        """What is gathered after one more part, and the terms of the part."""
        key = jax.random.fold_in(_key(state), place)
        new, terms = self._gradients(state, sums.constants, batch, key, counts)
        return new._replace(gradients=_sum(sums.gradients, new.gradients)), terms

    @jax.named_scope("optimizer")
    def apply(self, state: TrainState, sums: _Gathered, terms: Terms) -> tuple[TrainState, Metrics]:
        """The next state, and what is told of the step."""
        updates, optimizer_state = self.transformation.update(sums.gradients, state.optimizer, state.trainable)
        norm = global_norm(sums.gradients)
        metrics = {"loss": self.objective.total(terms), **metrics_of(terms), "gradient_norm": norm}
        trainable = optax.apply_updates(state.trainable, updates)
        changed = {
            "trainable": trainable,
            "constants": sums.constants,
            "optimizer": optimizer_state,
            "average": None if self.average is None else averaged(state.average, trainable, state.step, self.average),
        }
        if self.skips:
            fine = jnp.stack([jnp.isfinite(value) for name, value in metrics.items() if name not in UNCOUNTED]).all()
            before = {name: getattr(state, name) for name in changed}
            changed = jax.tree.map(partial(jnp.where, fine), changed, before)
        return dataclasses.replace(state, step=state.step + 1, **changed), metrics

    def _variables(self, state: TrainState, trainable: PyTree, constants: PyTree) -> dict[str, Any]:
        frozen = state.frozen
        if self.shares is not None:
            from vitjax.training.shares import gathered

            trainable, frozen = gathered(trainable, self.shares.trainable), gathered(frozen, self.shares.frozen)
        return {"params": self.optimizer.merge(trainable, frozen), **constants}

    def _gradients(
        self, state: TrainState, constants: PyTree, batch: Batch, key: Array, counts: dict[str, Array] | None = None
    ) -> tuple[_Gathered, Terms]:
        """Those of the trainable subset, as far as this batch goes; `counts` are those of the whole."""

        def loss(trainable: PyTree) -> tuple[Array, Evaluated]:
            evaluated = self.objective.evaluate(self._variables(state, trainable, constants), batch, key)
            terms = evaluated.terms
            if counts is not None:
                terms = {name: dataclasses.replace(mean, count=counts[name]) for name, mean in terms.items()}
            return self.objective.total(terms), evaluated

        gradients, (terms, changed) = jax.grad(loss, has_aux=True)(state.trainable)
        return _Gathered(gradients, {**constants, **changed}), terms


def _key(state: TrainState) -> Array:
    """The random numbers of the step."""
    return jax.random.fold_in(state.key, state.step)


def _sum(one: PyTree, other: PyTree) -> Any:
    return jax.tree.map(jnp.add, one, other)
