"""What a run needs before its first step: sources, model, plan, state and compiled steps."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
from jax.sharding import Mesh

from vitjax.checkpoints.initial import initialize_from
from vitjax.data.plan import TrainPlan
from vitjax.data.source import Source
from vitjax.detection.matcher import match
from vitjax.inference.detector import Detector
from vitjax.training.experiment import Experiment, with_classes
from vitjax.training.parallel import (
    check_batch_size,
    compile_train_step,
    data_mesh,
    matching_per_device,
    place_state,
)
from vitjax.training.state import TrainState, initial_state, initial_variables
from vitjax.training.steps import make_train_step


@dataclasses.dataclass(frozen=True)
class Prepared:
    """Everything between an experiment and its first step; `experiment.model` has its number of classes."""

    experiment: Experiment
    mesh: Mesh
    train_source: Source
    evaluation_source: Source
    plan: TrainPlan
    total_steps: int
    state: TrainState
    train_step: Callable
    learning_rate: Callable
    detector: Detector
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
    check_batch_size(experiment.batch_size, mesh)
    check_batch_size(experiment.evaluation_batch_size or experiment.batch_size, mesh, "evaluation_batch_size")
    train_source = experiment.data.open(experiment.data.train_split)
    evaluation_source = experiment.data.open(experiment.data.split)
    train_source.classes.require(evaluation_source.classes, f"the split {experiment.data.split!r}")
    model = with_classes(experiment.model, train_source)
    experiment = dataclasses.replace(experiment, model=model)

    plan = TrainPlan(train_source.sizes, experiment.batch_size, experiment.augmentation, experiment.seed)
    total_steps = max(1, round(experiment.epochs * plan.steps_per_epoch))
    variables = initial_variables(model, experiment.seed)
    notes: tuple[str, ...] = ()
    if experiment.init_from:
        variables, notes = initialize_from(Path(experiment.init_from), variables)
    elif experiment.optimizer.frozen:
        notes = (
            "note: weights start random, and those frozen by optimizer.frozen stay so; give --init-from, "
            "or train everything with --optimizer.frozen (no patterns) and --model.backbone.norm group",
        )
    optimizer = experiment.optimizer
    trainable, _ = optimizer.partition(variables["params"])
    transformation = optimizer.transformation(trainable, total_steps, plan.steps_per_epoch)
    loss = experiment.loss
    matching = matching_per_device(lambda predictions, targets: match(loss.cost, predictions, targets), mesh)
    step = make_train_step(model, loss, optimizer, transformation, matching)
    return Prepared(
        experiment=experiment,
        mesh=mesh,
        train_source=train_source,
        evaluation_source=evaluation_source,
        plan=plan,
        total_steps=total_steps,
        state=_state(variables, experiment, transformation, mesh),
        train_step=compile_train_step(step, mesh),
        learning_rate=optimizer.learning_rates(total_steps, plan.steps_per_epoch),
        detector=Detector(model, experiment.postprocess, experiment.resize, mesh),
        notes=notes,
    )


def _state(
    variables: dict[str, Any], experiment: Experiment, transformation: optax.GradientTransformation, mesh: Mesh
) -> TrainState:
    return place_state(initial_state(variables, experiment.optimizer, transformation, experiment.seed), mesh)
