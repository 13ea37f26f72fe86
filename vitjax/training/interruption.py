"""Ctrl-C and SIGTERM: noted while steps are made, and answered at once while something is compiled or scored."""

import atexit
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import jax

T = TypeVar("T")

_LOOK = 0.2  # seconds between looks at the signals; a handler runs at once
_owners: list[bool] = []
_threads: list[threading.Thread] = []


@atexit.register
def _wait_for_threads() -> None:
    for thread in _threads:  # an interpreter that ends while one compiles aborts; commands end by os._exit
        thread.join()


class Interrupted(KeyboardInterrupt):
    """The signal `number` has come, and what was under way was given up; the message says what that means for the run.

    Who pressed Ctrl-C twice gets a plain KeyboardInterrupt.
    """

    def __init__(self, told: str, number: int) -> None:
        """Takes both."""
        super().__init__(told)
        self.number = number


@contextmanager
def interruption() -> Iterator[list[int]]:
    """The signals SIGINT and SIGTERM that have come, in a list that grows; a second SIGINT ends the process at once.

    Of several processes each has its own.
    """
    seen: list[int] = []

    def note(number: int, _frame: object) -> None:
        seen.append(number)
        signal.signal(signal.SIGINT, _end_at_once if _owners else signal.default_int_handler)

    try:  # JAX's own handling of SIGTERM, where it has one, is none of Python's
        numbers = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, note) or signal.SIG_DFL for number in numbers}
    except ValueError:  # not the main thread: whoever started it handles signals
        before = {}
    try:
        yield seen
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def owning_the_process() -> Iterator[None]:
    """Where it is the command's own: a second Ctrl-C then ends it without waiting for anything that is under way."""
    _owners.append(True)
    try:
        yield
    finally:
        _owners.pop()


def _end_at_once(number: int, _frame: object) -> None:
    os.write(2, b"stopped at once; the same command goes on from the last checkpoint\n")
    os._exit(128 + number)


def answering(signals: Sequence[int], work: Callable[[], T]) -> T:
    """What the work gives; signals that come meanwhile are answered, which XLA's compiler would not let Python do.

    The work runs in a thread. Where a signal comes it goes on there, and must not change what is used afterwards;
    `is_busy` tells of it. With several hosts, which would not all give up alike, it is not interrupted.

    Raises:
        Interrupted: a signal has come since the call.
    """
    if threading.current_thread() is not threading.main_thread() or jax.process_count() > 1:
        return work()
    before, future = len(signals), Future[T]()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    thread = beside(run)
    while not future.done() and len(signals) == before:
        thread.join(_LOOK)
    if not future.done():
        raise Interrupted("stopped", signals[before])
    _threads.remove(thread)
    return future.result()


def beside(work: Callable[[], object]) -> threading.Thread:
    """A thread that has begun the work; `is_busy` tells of it."""
    _threads.append(threading.Thread(target=work, daemon=True))
    _threads[-1].start()
    return _threads[-1]


def until(signals: Sequence[int], items: Iterable[T]) -> Iterator[T]:
    """The items as long as no signal has come; for work that `answering` has given up.

    Raises:
        Interrupted: one has come.
    """
    before = len(signals)
    for item in items:
        if len(signals) > before and jax.process_count() == 1:
            raise Interrupted("stopped", signals[before])
        yield item


@contextmanager
def before_the_first_step(workdir: Path, signals: Sequence[int]) -> Iterator[None]:
    """Says of an interruption what it means there."""
    try:
        if signals:
            raise Interrupted("", signals[0])
        yield
    except Interrupted as stop:
        told = f"stopped before the first step; {workdir} is as it was, and the same command begins again"
        raise Interrupted(told, stop.number) from stop


def is_busy() -> bool:
    """Whether work that was given up still runs; Python might crash where it ends beside it."""
    return any(thread.is_alive() for thread in _threads)
