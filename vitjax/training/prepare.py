"""What a run needs before its first step: sources, model, plan, state and compiled steps."""

import dataclasses
import functools
from collections.abc import Callable, Generator
from contextlib import closing
from typing import Any

import jax
import numpy as np
import optax
from jax.sharding import Mesh

from vitjax.data.loader import batches
from vitjax.data.source import Classes, Source
from vitjax.inference.sweep import Sweep
from vitjax.placement import check_batch_size, data_mesh, place_state, replicated
from vitjax.runs.experiment import Experiment, fitted, require_score
from vitjax.runs.numbers import require_class_weights
from vitjax.runs.optimizer import AdamW
from vitjax.structs import Batch
from vitjax.training.state import TrainState, init, initial_state
from vitjax.training.steps import Step, divided_rows, make_train_step


@dataclasses.dataclass(frozen=True)
class Prepared:
    """Everything between an experiment and its first step; `experiment.model` has its number of classes."""

    experiment: Experiment
    mesh: Mesh
    train_source: Source
    evaluation_source: Source
    plan: Any
    total_steps: int
    shapes: TrainState
    optimizer: AdamW
    transformation: optax.GradientTransformation
    train_step: Step
    learning_rate: Callable
    sweep: Sweep
    total: Callable

    @property
    def state(self) -> TrainState:
        """The state before the first step, made when a run first asks for it: one that goes on never does."""
        return self._start[0]

    @property
    def notes(self) -> tuple[str, ...]:
        """Where the first weights come from."""
        return self._start[1]

    @functools.cached_property
    def _start(self) -> tuple[TrainState, tuple[str, ...]]:
        experiment = self.experiment
        variables, notes = _first_variables(experiment, self.train_source.classes)
        average = experiment.average is not None
        state = initial_state(variables, self.optimizer, self.transformation, experiment.seed, average=average)
        placement = jax.tree.map(lambda leaf: leaf.sharding, self.shapes) if experiment.fsdp else None
        return place_state(state, self.mesh, placement), notes

    def whole(self, variables: Any) -> Any:
        """Variables of a state as every device needs them to predict."""
        return place_state(variables, self.mesh) if self.experiment.fsdp else variables

    @property
    def max_objects(self) -> int:
        """The most objects that a training image has, and so the places for them in every batch; at least one."""
        return max(1, self.train_source.max_objects * self.plan.images_in_one)

    @property
    def evaluation_batch_size(self) -> int:
        """Images per evaluation step."""
        return self.experiment.evaluation_batch_size or self.experiment.batch_size

    @functools.cached_property
    def drops(self) -> tuple[int, ...]:
        """The steps after which the learning rate drops, where the checkpoints from before are kept."""
        schedule: Any = self.optimizer.schedule
        return schedule.drops(self.plan.steps_per_epoch) if self.experiment.keep_before_drops else ()

    def every(self, epochs: float) -> int:
        """Steps of so many epochs, at least one."""
        return max(1, round(epochs * self.plan.steps_per_epoch))

    def reads(self, start: int) -> Generator[list[Batch], None, None]:
        """This host's rows of each step from `start` on, in parts: as the plan has them, or every so many rows."""
        together = self.plan.parts
        reads = batches(
            self.train_source,
            self.plan,
            max_objects=self.max_objects,
            start_step=start * together,
            steps=(self.total_steps - start) * together,
            workers=self.experiment.workers,
            host=jax.process_index(),
            hosts=jax.process_count(),
        )
        with closing(reads):
            for step in zip(*[reads] * together, strict=True):
                yield [part for read in step for part in divided_rows(read, self.experiment.micro_batches // together)]

    def headline(self) -> str:
        """Devices, parameters, global batch and steps per epoch, in one line."""
        devices, hosts = jax.devices(), jax.process_count()
        where = f"{devices[0].device_kind} on {hosts} hosts" if hosts > 1 else devices[0].device_kind
        trainable, frozen = count(self.shapes.trainable), count(self.shapes.frozen)
        return (
            f"{len(devices)} x {where} | {trainable:,} parameters train, {frozen:,} are frozen | "
            f"{self.experiment.batch_size} images a step, {self.plan.steps_per_epoch:,} steps an epoch, "
            f"{self.total_steps:,} in all"
        )


def count(tree: Any) -> int:
    """The number of numbers in a tree of arrays or shapes."""
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(tree))


def prepare(experiment: Experiment, sources: tuple[Source, Source] | None = None) -> Prepared:
    """Opens the data, unless given for training and evaluation, and builds everything that the loop turns.

    Raises:
        DataError: the data cannot be trained on.
        FieldError: fields of the experiment contradict each other or the data.
    """
    jax.config.update("jax_default_matmul_precision", experiment.matmul_precision)
    mesh = data_mesh()
    _require_divisible(experiment, mesh)
    train_source, evaluation_source = sources or [
        experiment.data.open(split) for split in (experiment.data.train_split, experiment.data.split)
    ]
    train_source.classes.require(evaluation_source.classes, f"the split {experiment.data.split!r}")
    experiment = dataclasses.replace(experiment, model=fitted(experiment.model, train_source))
    require_class_weights(getattr(experiment.loss, "class_weights", None), getattr(experiment.model, "num_classes", 0))
    objective = experiment.objective(mesh)
    require_score(experiment.best, experiment.task.about.scores)
    plan = experiment.plan(train_source)
    total_steps = max(1, round(experiment.epochs * plan.steps_per_epoch), experiment.least_steps)
    optimizer = experiment.optimizer.for_batch_size(experiment.batch_size)
    variables = jax.eval_shape(lambda: init(experiment.model, experiment.seed))
    trainable, _ = optimizer.partition(variables["params"])
    transformation = optimizer.transformation(trainable, total_steps, plan.steps_per_epoch)
    shapes = _shapes(experiment, variables, optimizer, transformation, mesh)
    shares = jax.tree.map(lambda leaf: leaf.sharding, shapes) if experiment.fsdp else None
    options: Any = {"average": experiment.average, "skips": experiment.skip_non_finite > 0, "shares": shares}
    step = make_train_step(objective, optimizer, transformation, mesh, **options)
    return Prepared(
        experiment=experiment,
        mesh=mesh,
        train_source=train_source,
        evaluation_source=evaluation_source,
        plan=plan,
        total_steps=total_steps,
        shapes=shapes,
        optimizer=optimizer,
        transformation=transformation,
        train_step=step,
        learning_rate=optimizer.learning_rates(total_steps, plan.steps_per_epoch),
        sweep=Sweep(experiment.task, mesh, experiment.matmul_precision, validate=objective.validate),
        total=objective.total,
    )


def _require_divisible(experiment: Experiment, mesh: Mesh) -> None:
    """Raises a FieldError where the images of a step cannot be divided among the devices."""
    parts = experiment.micro_batches
    name = "batch_size" if parts == 1 else "batch_size / micro_batches"
    check_batch_size(experiment.batch_size // parts, mesh, name)
    check_batch_size(experiment.evaluation_batch_size or experiment.batch_size, mesh, "evaluation_batch_size")


def _shapes(
    experiment: Experiment, variables: Any, optimizer: AdamW, transformation: optax.GradientTransformation, mesh: Mesh
) -> TrainState:
    """The state without its numbers, placed where a restore puts it: every device has it whole, or its share."""
    average = experiment.average is not None
    shapes = jax.eval_shape(
        lambda values: initial_state(values, optimizer, transformation, experiment.seed, average=average), variables
    )
    placement = jax.tree.map(lambda leaf: replicated(mesh), shapes)
    if experiment.fsdp:
        from vitjax.training.shares import in_shares

        placement = in_shares(shapes, mesh)
    return jax.tree.map(lambda leaf, at: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=at), shapes, placement)


def _first_variables(experiment: Experiment, classes: Classes) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The variables before the first step, and notes on where they come from."""
    from vitjax.runs.start import notes_on_start, require_start  # which a run that goes on does without
    from vitjax.training.first_weights import first_variables

    draw = functools.partial(first_variables, experiment.model, experiment.seed)
    if not experiment.init_from:
        require_start(experiment)
        return draw(), notes_on_start(experiment)
    from vitjax.runs.initial import initialize_from  # which knows every family and format

    variables, notes = initialize_from(
        experiment.init_from,
        jax.eval_shape(lambda: init(experiment.model, experiment.seed)),
        classes=classes if experiment.match_classes else None,
        frozen=None if experiment.from_scratch else lambda path: experiment.optimizer.multiplier(path) == 0,
        some=lambda paths: draw(only=paths),
        inside=getattr(experiment.model, "inside", None),
    )
    return variables, (*notes_on_start(experiment), *notes)
