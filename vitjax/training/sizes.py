"""The sizes that a step is compiled for: the one that is asked for at once, those that the plan has next meanwhile."""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax

from vitjax.structs import Batch
from vitjax.training.allocator import give_back_freed
from vitjax.training.interruption import beside
from vitjax.training.prepare import Prepared
from vitjax.training.state import TrainState

Size = tuple[int, int]
Shape = tuple[int, ...]
_EPOCHS = 2  # that are looked through for sizes; what comes later only is compiled when it comes


class Sizes:
    """The sizes of images that a run's step is compiled for, and the thread that compiles what will come.

    The thread begins once the first step is compiled, and compiles from shapes alone, in the order of the plan; of the
    parts of a step, for which one program does, the first. It is the same program that the loop would compile: a call
    of the step finds it. With several hosts there is none, as all must compile alike.
    """

    def __init__(self, run: Prepared, tell: Callable[[str], object], compile_all: Callable[[Iterable], object]) -> None:
        """Compiles nothing yet; `tell` gets a line for each size, and `compile_all` what the loop waits for."""
        self._run, self._tell, self._compile_all = run, tell, compile_all
        self._lock = threading.Lock()
        self._compiled = set[Shape]()
        self._begun = dict[Shape, threading.Event]()
        self._is_closed = False

    def are_new(self, parts: Sequence[Batch]) -> bool:
        """Whether the step must be compiled for these parts, or waited for."""
        return not _shapes_of(parts) <= self._compiled

    def compile(self, state: TrainState, parts: Sequence[Batch], step: int) -> None:
        """Compiles for these parts, of the step after `step`; where the thread is at one of them, waits for it."""
        is_first, waiting = not self._compiled, list[threading.Event]()
        for shape in _shapes_of(parts) - self._compiled:
            if (under_way := self._begin(shape)) is not None:
                waiting.append(under_way)
        for under_way in waiting:
            under_way.wait()
        self._compile_all(self._run.train_step.lowered(state, parts))
        give_back_freed()
        self._compiled |= _shapes_of(parts)
        if is_first and len(self._run.plan.buckets) > 1 and jax.process_count() == 1:
            shapes = [of_size(part, part.pixels.shape[1:3]) for part in parts]
            beside(lambda: self._compile_ahead(shapes, step))

    def close(self) -> None:
        """Lets the thread end after what it is at."""
        self._is_closed = True

    def _begin(self, shape: Shape, *, ahead: bool = False) -> threading.Event | None:
        """Takes images of a shape and tells so, unless somebody has; then gives what is set once it is done."""
        with self._lock:
            if shape in self._begun:
                return self._begun[shape]
            self._begun[shape] = threading.Event()
            if not ahead:
                self._begun[shape].set()  # who compiles it for the loop is who waits for it
            count = len(self._run.plan.buckets)
            told = f"compiling {len(self._begun)} of {count} sizes" if count > 1 else "compiling the step"
            self._tell(f"{told} ahead, {shape[1]} x {shape[2]}" if ahead else told)
        return None

    def _compile_ahead(self, parts: Sequence[Any], step: int) -> None:
        for size in self._to_come(step):
            if self._is_closed:
                return
            resized = [of_size(part, size) for part in parts]
            shape = resized[0].pixels.shape
            try:
                if self._begin(shape, ahead=True) is None:
                    next(self._run.train_step.lowered(self._run.shapes, resized)).compile()
                    give_back_freed()
            except Exception:  # the loop will meet it too, and say so
                return
            finally:
                self._begun[shape].set()

    def _to_come(self, step: int) -> Iterator[Size]:
        """The sizes that the steps after `step` have, each once, in order."""
        run, plan = self._run, self._run.plan
        last, found = min(run.total_steps, step + _EPOCHS * plan.steps_per_epoch), set[Size]()
        for part in range(step * plan.parts, last * plan.parts):
            size = plan(part).bucket
            if size not in found:
                yield size
                found.add(size)
            if len(found) == len(plan.buckets):
                return


def _shapes_of(parts: Sequence[Any]) -> set[Shape]:
    return {tuple(part.pixels.shape) for part in parts}


def of_size(batch: Any, size: tuple[int, int], rows: int | None = None) -> Any:
    """The shapes of a batch as they are with images of this (height, width), and so many of them."""
    before = batch.pixels.shape[1:3]

    def shape(leaf: Any) -> jax.ShapeDtypeStruct:
        first, *rest = leaf.shape
        rest = [*size, *rest[2:]] if tuple(rest[:2]) == before else rest
        return jax.ShapeDtypeStruct((rows or first, *rest), leaf.dtype, sharding=getattr(leaf, "sharding", None))

    return jax.tree.map(shape, batch)
