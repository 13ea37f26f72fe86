"""A compiled prediction step over every batch of a plan."""

import dataclasses
import operator
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Int

from vitjax.data.loader import batches
from vitjax.data.plan import Plan
from vitjax.data.source import Source
from vitjax.placement import place_batch
from vitjax.structs import Batch


class Answer(NamedTuple):
    """What a step says of one record: its row of every array, None where the image could not be read."""

    record: int
    labels: Int[np.ndarray, " objects"]
    row: Any | None


def sweep(
    step: Callable[[dict[str, Any], Batch], Any],
    variables: dict[str, Any],
    source: Source,
    plan: Plan,
    mesh: Mesh,
    *,
    workers: int = 0,
) -> Iterator[Answer]:
    """The answer for each record once, in the order of the plan, with the labels that the source has for it.

    The device works on the next batch while the host reads this one's answer. Label maps stay on the host: a step needs
    none, and it would be compiled anew for a batch of which no image can be read, which has none.
    """
    waiting: list[tuple[Batch, Any]] = []
    for batch in batches(source, plan, max_objects=max(source.max_objects, 1), workers=workers):
        waiting.append((batch, step(variables, place_batch(dataclasses.replace(batch, label_maps=None), mesh))))
        if len(waiting) > 1:
            yield from _answers(*waiting.pop(0))
    for batch, answer in waiting:
        yield from _answers(batch, answer)


def _answers(batch: Batch, answer: Any) -> Iterator[Answer]:
    answer = jax.device_get(answer)
    for row, (record, broken) in enumerate(zip(batch.records.tolist(), batch.broken.tolist(), strict=True)):
        labels = np.asarray(batch.targets.labels[row][batch.targets.valid[row]])
        if record >= 0:
            yield Answer(record, labels, jax.tree.map(operator.itemgetter(row), answer))
        elif broken >= 0:
            yield Answer(broken, labels, None)
