"""What the steps report, read one step late so that the device never waits for the host."""

import collections
import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from vitjax.data.source import Source
from vitjax.errors import VitjaxError
from vitjax.structs import Batch


class NonFiniteLoss(VitjaxError):
    """A step's loss or gradient was NaN or infinite; the message names step, images and terms."""


class Watch:
    """Collects the scalars of the steps, stops where one is not finite, and averages those since the last reading."""

    def __init__(self, source: Source, delay: int = 1) -> None:
        """Names images by the source's ids, and reads each step's scalars `delay` steps later."""
        self._source = source
        self._delay = delay
        self._pending: collections.deque[tuple[int, Sequence[int], Any]] = collections.deque()
        self._seen: dict[str, list[float]] = collections.defaultdict(list)
        self.broken: set[int] = set()
        self.last_loss = math.nan

    def add(self, step: int, parts: Sequence[Batch], metrics: Any) -> None:
        """Takes the scalars of a step on these parts, which may be under way; checks those of the step before.

        Raises:
            NonFiniteLoss: the loss or the gradient of a step was not finite.
        """
        self.broken.update(int(record) for part in parts for record in part.broken if record >= 0)
        self._pending.append((step, [record for part in parts for record in part.records.tolist()], metrics))
        self._settle(self._delay)

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
            step, records, metrics = self._pending.popleft()
            values = {name: float(value) for name, value in jax.device_get(metrics).items()}
            self._check(step, records, values)
            self.last_loss = values["loss"]
            for name, value in values.items():
                self._seen[name].append(value)

    def _check(self, step: int, records: Sequence[int], values: dict[str, float]) -> None:
        # class_error of a batch without objects is NaN by right: nothing was counted.
        wrong = [name for name, value in values.items() if not math.isfinite(value) and name != "class_error"]
        if wrong:
            ids = [self._source.image_ids[record] for record in records if record >= 0]
            raise NonFiniteLoss(
                f"step {step} is not finite in {', '.join(wrong)}; image ids {ids}. The last checkpoint is from before "
                "it: look at these images and their annotations, lower optimizer.learning_rate, or set "
                "optimizer.clip_norm."
            )


def _mean(values: list[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else math.nan
