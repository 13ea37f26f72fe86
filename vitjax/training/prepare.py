"""What a run needs before its first step: sources, model, plan, state and compiled steps."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from vitjax.data.source import Classes, Source
from vitjax.inference.sweep import Sweep
from vitjax.placement import (
    check_batch_size,
    compile_train_step,
    data_mesh,
    place_state,
)
from vitjax.runs.experiment import Experiment, with_classes
from vitjax.runs.initial import initialize_from
from vitjax.training.state import TrainState, initial_state, initial_variables
from vitjax.training.steps import make_train_step


@dataclasses.dataclass(frozen=True)
class Prepared:
    """Everything between an experiment and its first step; `experiment.model` has its number of classes."""

    experiment: Experiment
    mesh: Mesh
    train_source: Source
    evaluation_source: Source
    plan: Any
    total_steps: int
    state: TrainState
    train_step: Callable
    learning_rate: Callable
    sweep: Sweep
    notes: tuple[str, ...]

    @property
    def evaluation_batch_size(self) -> int:
        """Images per evaluation step."""
        return self.experiment.evaluation_batch_size or self.experiment.batch_size

    def every(self, epochs: float) -> int:
        """Steps of so many epochs, at least one."""
        return max(1, round(epochs * self.plan.steps_per_epoch))

    def headline(self) -> str:
        """Devices, parameters, global batch and steps per epoch, in one line."""
        devices = jax.devices()
        trainable, frozen = count(self.state.trainable), count(self.state.frozen)
        return (
            f"{len(devices)} x {devices[0].device_kind} | {trainable:,} parameters train, {frozen:,} are frozen | "
            f"{self.experiment.batch_size} images a step, {self.plan.steps_per_epoch:,} steps an epoch, "
            f"{self.total_steps:,} in all"
        )


def count(tree: Any) -> int:
    """The number of numbers in a tree of arrays or shapes."""
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(tree))


def prepare(experiment: Experiment) -> Prepared:
    """Opens the data and builds everything that the loop turns.

    Raises:
        DataError: the data cannot be trained on.
        ValueError: fields of the experiment contradict each other or the data.
    """
    jax.config.update("jax_default_matmul_precision", experiment.matmul_precision)
    mesh = data_mesh()
    parts = experiment.micro_batches
    name = "batch_size" if parts == 1 else "batch_size / micro_batches"
    check_batch_size(experiment.batch_size // parts, mesh, name)
    check_batch_size(experiment.evaluation_batch_size or experiment.batch_size, mesh, "evaluation_batch_size")
    train_source = experiment.data.open(experiment.data.train_split)
    evaluation_source = experiment.data.open(experiment.data.split)
    train_source.classes.require(evaluation_source.classes, f"the split {experiment.data.split!r}")
    experiment = dataclasses.replace(experiment, model=with_classes(experiment.model, train_source))
    objective = experiment.objective(mesh)
    plan = experiment.plan(train_source)
    total_steps = max(1, round(experiment.epochs * plan.steps_per_epoch))
    variables, notes = _first_variables(experiment, train_source.classes)
    optimizer = experiment.optimizer.for_batch_size(experiment.batch_size)
    trainable, _ = optimizer.partition(variables["params"])
    transformation = optimizer.transformation(trainable, total_steps, plan.steps_per_epoch)
    step = make_train_step(
        objective,
        optimizer,
        transformation,
        micro_batches=experiment.micro_batches,
        average=experiment.average,
    )
    state = initial_state(variables, optimizer, transformation, experiment.seed, average=experiment.average is not None)
    return Prepared(
        experiment=experiment,
        mesh=mesh,
        train_source=train_source,
        evaluation_source=evaluation_source,
        plan=plan,
        total_steps=total_steps,
        state=place_state(state, mesh),
        train_step=compile_train_step(step, mesh),
        learning_rate=optimizer.learning_rates(total_steps, plan.steps_per_epoch),
        sweep=Sweep(experiment.task, mesh),
        notes=notes,
    )


def _first_variables(experiment: Experiment, classes: Classes) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The variables before the first step, and notes on where they come from."""
    variables = initial_variables(experiment.model, experiment.seed)
    if experiment.init_from:
        return initialize_from(experiment.init_from, variables, classes=classes if experiment.match_classes else None)
    if experiment.optimizer.frozen:
        return variables, (
            "note: weights start random, and those frozen by optimizer.frozen stay so; give --init-from, "
            "or train everything with --optimizer.frozen (no patterns) and --model.backbone.norm group",
        )
    return variables, ()
