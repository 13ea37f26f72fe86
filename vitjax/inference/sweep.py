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
from vitjax.placement import Precision, compile_predict_step, matmul_precision, place_batch
from vitjax.prediction import Answer
from vitjax.structs import Batch

PredictStep = Callable[[dict[str, Any], Batch], Any]


def make_predict_step(task: Task, precision: Precision | None = None) -> PredictStep:
    """The function from (variables, batch) to what the task makes of the model's answer; nothing is compiled.

    Its float32 matrix products are of the precision, or of JAX's own setting.
    """

    def step(variables: dict[str, Any], batch: Batch) -> Any:
        with matmul_precision(precision):
            return task.finish(task.model.apply(variables, images_of(batch), train=False), batch)

    return step


class Sweep:
    """A task's compiled prediction step, ready to run over sources with any variables of the model."""

    def __init__(self, task: Task, mesh: Mesh, precision: Precision | None = None) -> None:
        """Compiles nothing yet; the first batch of each bucket does."""
        self.task = task
        self._mesh = mesh
        self._step = compile_predict_step(make_predict_step(task, precision), mesh)

    def __call__(
        self, variables: dict[str, Any], source: Source, *, batch_size: int, multiple: int = 32, workers: int = 0
    ) -> Iterator[Answer]:
        """The answer for each record once, in the order of the batches, of about `batch_size` images.

        Images of different sizes are padded to sides that are a multiple of `multiple`. The device works on the next
        batch while the host reads this one's answer.
        """
        if len(source) == 0:
            return
        batch_size = min(batch_size, (self.task.images_per_device or batch_size) * self._mesh.size)
        batch_size = -(-batch_size // self._mesh.size) * self._mesh.size
        plan = self.task.plan(source, batch_size, multiple=multiple)
        waiting: list[tuple[Batch, Any]] = []
        for batch in batches(source, plan, max_objects=max(source.max_objects, 1), workers=workers):
            # Label maps stay on the host: no step needs them, and a batch of broken images has none, which would be
            # compiled anew.
            placed = place_batch(dataclasses.replace(batch, label_maps=None), self._mesh)
            waiting.append((batch, self._step(variables, placed)))
            if len(waiting) > 1:
                yield from self._answers(*waiting.pop(0), source.classes)
        for batch, rows in waiting:
            yield from self._answers(batch, rows, source.classes)

    def _answers(self, batch: Batch, rows: Any, classes: Classes) -> Iterator[Answer]:
        rows = jax.device_get(rows)
        for row, (record, broken) in enumerate(zip(batch.records.tolist(), batch.broken.tolist(), strict=True)):
            truth = np.asarray(batch.targets.labels[row][batch.targets.valid[row]])
            if record >= 0:
                found = jax.tree.map(operator.itemgetter(row), rows)
                yield Answer(record, truth, self.task.prediction(found, classes))
            elif broken >= 0:
                yield Answer(broken, truth, None)
