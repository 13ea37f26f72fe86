"""A task over every image of a source, in batches, compiled once per bucket."""

import dataclasses
import operator
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from vitjax.data.loader import batches
from vitjax.data.source import Classes, Source
from vitjax.inference.task import Task
from vitjax.ops.images import images_of
from vitjax.placement import Precision, compiled, hosts_of, matmul_precision, place_batch
from vitjax.prediction import Answer
from vitjax.structs import Batch, Terms

PredictStep = Callable[[dict[str, Any], Batch], tuple[Any, Terms]]
Validate = Callable[[Any, Batch], Terms]


def make_predict_step(task: Task, precision: Precision | None = None, validate: Validate | None = None) -> PredictStep:
    """The function from (variables, batch) to what the task makes of the model's answer, and the terms of its loss.

    Nothing is compiled. Float32 matrix products are of the precision, or of JAX's own setting.
    """

    def step(variables: dict[str, Any], batch: Batch) -> tuple[Any, Terms]:
        with matmul_precision(precision):
            answer = task.model.apply(variables, images_of(batch), train=False)
            return task.finish(answer, batch), {} if validate is None else validate(answer, batch)

    return step


def _rows_of(batch: Batch) -> tuple[Any, ...]:
    """What is known of the rows of a batch beside the answers."""
    return batch.records, batch.broken, batch.targets.labels, batch.targets.valid


class Sweep:
    """A task's compiled prediction step, ready to run over sources with any variables of the model."""

    def __init__(
        self, task: Task, mesh: Mesh, precision: Precision | None = None, *, validate: Validate | None = None
    ) -> None:
        """Compiles nothing yet; the first batch of each bucket does. `validate` gives the terms of a loss."""
        self.task = task
        self._mesh = mesh
        self._validates = validate is not None
        self._host, self._hosts = hosts_of(mesh)
        step = make_predict_step(task, precision, validate)
        self._step = compiled(step, mesh, batches=(1,))
        if self._hosts > 1:  # every host is also told what each knows of its own rows
            from vitjax.across_hosts import after_all_have_compiled

            told = compiled(lambda variables, batch: (_rows_of(batch), step(variables, batch)), mesh, batches=(1,))
            self._step = after_all_have_compiled(told)

    def __call__(
        self,
        variables: dict[str, Any],
        source: Source,
        *,
        batch_size: int,
        multiple: int = 32,
        workers: int = 0,
        terms: list[Terms] | None = None,
    ) -> Iterator[Answer]:
        """The answer for each record once, in the order of the batches, of about `batch_size` images.

        Images of different sizes are padded to sides that are a multiple of `multiple`. The device works on the next
        batch while the host reads this one's answer. The terms of the loss of every batch are put into `terms`.
        """
        if len(source) == 0:
            return
        batch_size = min(batch_size, (self.task.images_per_device or batch_size) * self._mesh.size)
        batch_size = -(-batch_size // self._mesh.size) * self._mesh.size
        plan = self.task.plan(source, batch_size, multiple=multiple)
        waiting: list[tuple[tuple[Any, ...], tuple[Any, Terms]]] = []
        terms = [] if terms is None else terms
        options: Any = {"workers": workers, "host": self._host, "hosts": self._hosts}
        for batch in batches(source, plan, max_objects=max(source.max_objects, 1), **options):
            found = self._step(variables, self._placed(batch))
            waiting.append((_rows_of(batch), found) if self._hosts == 1 else found)
            if len(waiting) > 1:
                yield from self._answers(*waiting.pop(0), source.classes, terms)
        for of_batch, found in waiting:
            yield from self._answers(of_batch, found, source.classes, terms)

    def _placed(self, batch: Batch) -> Batch:
        """The batch on the devices; what the loss alone needs stays on the host where there is none."""
        kept = batch if self._validates else dataclasses.replace(batch, label_maps=None, masks=None)
        return place_batch(kept, self._mesh)

    def _answers(
        self, known: tuple[Any, ...], found: tuple[Any, Terms], classes: Classes, terms: list[Terms]
    ) -> Iterator[Answer]:
        (records, wrong, labels, valid), (rows, of_batch) = jax.device_get((known, found))
        terms.append(of_batch)
        for row, (record, broken) in enumerate(zip(records.tolist(), wrong.tolist(), strict=True)):
            truth = np.asarray(labels[row][valid[row]])
            if record >= 0:
                found = jax.tree.map(operator.itemgetter(row), rows)
                yield Answer(record, truth, self.task.prediction(found, classes))
            elif broken >= 0:
                yield Answer(broken, truth, None)
