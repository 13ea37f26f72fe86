"""What the steps report, read one step late so that the device never waits for the host."""

import collections
import math
from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from vitjax.data.source import Source
from vitjax.errors import VitjaxError
from vitjax.structs import Batch
from vitjax.training.steps import UNCOUNTED

UNREADABLE, NOT_FINITE = "unreadable.jsonl", "not_finite.jsonl"
"""Files of a run folder: what `vitjax.training.faults` keeps there."""


class NonFiniteLoss(VitjaxError):
    """A step's loss or gradient was NaN or infinite; the message names step, images and terms."""


class Faulty(NamedTuple):
    """A step with metrics that are not finite: its number, the parts of its batch, the ids of its images, metrics, and
    whether it is passed over."""

    step: int
    parts: Sequence[Batch]
    image_ids: list[int | str]
    metrics: dict[str, float]
    skipped: bool = False


class Watch:
    """Collects the scalars of the steps, stops where they are not finite, and averages those since the last reading."""

    def __init__(
        self,
        source: Source,
        delay: int = 1,
        *,
        skips: int = 0,
        unreadable: Callable[[int, list[int], int], object] = lambda *_: None,
        explained: Callable[[Faulty], str] = lambda faulty: "",
        gathered: Callable[[list[int]], list[int]] = list,
    ) -> None:
        """Names images by the source's ids, and reads each step's scalars `delay` steps later.

        So many `skips` in a row are passed over. `unreadable` is told of records at the step that first misses them,
        with the number of all, and `explained` of every step that is not finite, to which it may give a sentence.
        `gathered` gives the records of all hosts for those of one.
        """
        self._source, self._delay, self._skips = source, delay, skips
        self._unreadable, self._explained, self._gathered = unreadable, explained, gathered
        self._pending: collections.deque[tuple[int, Sequence[Batch], Any]] = collections.deque()
        self._seen: dict[str, list[float]] = collections.defaultdict(list)
        self._in_a_row = 0
        self.broken: set[int] = set()
        self.last_loss = math.nan

    def add(self, step: int, parts: Sequence[Batch], metrics: Any) -> None:
        """Takes the scalars of a step on these parts, which may be under way; checks those of the step before.

        Raises:
            NonFiniteLoss: the loss or the gradient of more steps in a row was not finite than are passed over.
        """
        self._pending.append((step, parts, metrics))
        self._settle(self._delay)

    def missing(self, step: int, records: Collection[int]) -> None:
        """Takes note of the records that could not be read for a step. Raises what `unreadable` raises."""
        found = set(records) - self.broken
        if found:
            self.broken |= found
            self._unreadable(step, sorted(found), len(self.broken))

    def averages(self) -> dict[str, float]:
        """The mean of every scalar since the last call; waits for all steps."""
        self._settle(0)
        means = {name: _mean(values) for name, values in self._seen.items()}
        self._seen.clear()
        return means

    def settle(self) -> None:
        """Waits for all steps and checks them."""
        self._settle(0)

    def _settle(self, keep: int) -> None:
        while len(self._pending) > keep:
            step, parts, metrics = self._pending.popleft()
            values = {name: float(value) for name, value in jax.device_get(metrics).items()}
            if not self._is_finite(step, parts, values):
                continue
            self.last_loss = values["loss"]
            for name, value in values.items():
                self._seen[name].append(value)

    def _is_finite(self, step: int, parts: Sequence[Batch], values: dict[str, float]) -> bool:
        wrong = [name for name, value in values.items() if not math.isfinite(value) and name not in UNCOUNTED]
        self._in_a_row = self._in_a_row + 1 if wrong else 0
        if not wrong:
            return True
        records = self._gathered([record for part in parts for record in part.records.tolist() if record >= 0])
        ids = [self._source.image_ids[record] for record in records]
        skipped = self._in_a_row <= self._skips
        told = self._explained(Faulty(step, parts, ids, values, skipped))
        if not skipped:
            raise NonFiniteLoss(
                f"step {step} is not finite in {', '.join(wrong)}; image ids {ids}. The last checkpoint is from before "
                "it: look at these images and their annotations, lower optimizer.learning_rate, or set "
                f"optimizer.clip_norm. {told}".rstrip()
            )
        return False


def _mean(values: list[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else math.nan
