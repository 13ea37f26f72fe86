"""How a run ended: for programs by a number, for people in a line."""

import dataclasses
import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager

from vitjax.checkpoints.folders import CheckpointError
from vitjax.checkpoints.store import Store
from vitjax.checkpoints.writing import NOT_WRITTEN, CannotWrite, disk_fault
from vitjax.training.prepare import Prepared

CHECKPOINT = "checkpoint"
GOES_ON = "the same command goes on from there"


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a run ended: the step it reached of how many, and its last and best evaluation metrics.

    `stopped_by` is the number of the signal that kept it from its end, `unwritten` what the disk did not take.
    """

    step: int
    total_steps: int
    last: dict[str, float]
    best: dict[str, float]
    stopped_by: int | None = None
    unwritten: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """That of a command which ended so: 0 for a finished run of which everything is written."""
        return 128 + self.stopped_by if self.stopped_by else NOT_WRITTEN if self.unwritten else 0


@contextmanager
def going_on(unwritten: dict[str, str], name: str, instead: str) -> Iterator[None]:
    """Around what writes: where the disk does not take it, that is said and noted, and the run goes on."""
    try:
        yield
    except (OSError, CheckpointError, CannotWrite) as error:
        if (fault := disk_fault(error)) is None:
            raise
        unwritten[name] = fault
        print(f"warning: {name} cannot be written: {fault}; {instead}", file=sys.stderr, flush=True)


def end_of(
    run: Prepared, store: Store, start: int, step: int, unreadable: Collection[int], signals: Sequence[int]
) -> Iterator[str]:
    """What is said where the steps from `start` to `step` are made: images that could not be read, and why it ends."""
    if unreadable:
        names = sorted(run.train_source.name(record) for record in unreadable)
        yield f"{len(names)} training images could not be read and were replaced by others: {', '.join(names[:5])}"
    total, experiment = run.total_steps, run.experiment
    if step == start == 0 and signals and not experiment.init_from:
        yield f"stopped before the first step of {total:,}; the same command begins again"
    elif step < total and not signals:
        why = f"{experiment.score} has not been better in {experiment.patience} evaluations"
        yield f"{why}, so the run ends at step {step:,} of {total:,}; a larger --patience goes on"
    elif step > start and step not in store.steps():
        from_where = f"goes on from step {latest:,}" if (latest := store.latest_step()) is not None else "begins again"
        yield f"step {step:,} of {total:,} is not on disk; the same command {from_where}"
    elif step < total or not store.metrics(step):
        yield f"stopped at step {step:,} of {total:,}; {GOES_ON}"
