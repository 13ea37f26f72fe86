"""Who else works on a run: here nobody. `vitjax.training.several` has the other hosts, where there are some."""

from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any, TypeVar

from vitjax.runs.open_run import OpenRun, open_run
from vitjax.structs import Batch
from vitjax.training.prepare import Prepared

T = TypeVar("T")


class Company:
    """A process by itself: what is asked of all it answers alone."""

    def open(self, *run: Any, **options: Any) -> AbstractContextManager[OpenRun]:
        """The run folder, as `open_run` gives it; one host holds it for all."""
        return open_run(*run, **options)

    def first(self, work: Callable[[], T]) -> T | None:
        """What the work of the first host gives, for what depends on its disk and decides for all."""
        return work()

    def store(self, store: Any) -> Any:
        """The store of checkpoints that all ask at once."""
        return store

    def signals(self, own: list[int]) -> list[int]:
        """The signals that all know of; in the beginning those of this process."""
        return own

    def steps(self, loader: Generator[list[Batch], None, None]) -> Generator[list[Batch], None, None]:
        """What is loaded, as soon as all have theirs; raises what one of them has met."""
        return loader

    def compile(self, programs: Iterable[Any]) -> None:
        """Compiles what is about to run, on all."""
        for one in programs:
            one.compile()

    def broken(self, parts: Sequence[Batch]) -> list[int]:
        """The records that could not be read for the step whose parts came last."""
        return [int(record) for part in parts for record in part.broken if record >= 0]

    def gathered(self, records: list[int]) -> list[int]:
        """The records of all."""
        return records

    def for_first(self, run: Prepared, variables: Any) -> tuple[Prepared, Any]:
        """The run and its variables as the first host can use them by itself."""
        return run, variables
