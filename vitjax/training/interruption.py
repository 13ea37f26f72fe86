"""Ctrl-C and SIGTERM: noted while steps are made, and answered at once while something is compiled or scored."""

import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import TypeVar

import jax

T = TypeVar("T")

_LOOK = 0.2  # seconds between looks at the signals; a handler runs at once
_threads: list[threading.Thread] = []


class Interrupted(KeyboardInterrupt):
    """A signal has come, and what was under way was given up; the message says what that means for the run."""


@contextmanager
def interruption() -> Iterator[list[int]]:
    """The signals SIGINT and SIGTERM that have come, in a list that grows; a second SIGINT ends the process at once.

    With several processes JAX's own handling of SIGTERM is left in place.
    """
    seen: list[int] = []

    def note(number: int, _frame: object) -> None:
        seen.append(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    numbers = (signal.SIGINT, signal.SIGTERM) if jax.process_count() == 1 else (signal.SIGINT,)
    try:
        before = {number: signal.signal(number, note) for number in numbers}
    except ValueError:  # not the main thread: whoever started it handles signals
        before = {}
    try:
        yield seen
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


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

    thread = threading.Thread(target=run, daemon=True)
    _threads.append(thread)
    thread.start()
    while not future.done() and len(signals) == before:
        thread.join(_LOOK)
    if not future.done():
        raise Interrupted("stopped")
    _threads.remove(thread)
    return future.result()


def until(signals: Sequence[int], items: Iterable[T]) -> Iterator[T]:
    """The items as long as no signal has come; for work that `answering` has given up.

    Raises:
        Interrupted: one has come.
    """
    before = len(signals)
    for item in items:
        if len(signals) > before and jax.process_count() == 1:
            raise Interrupted("stopped")
        yield item


def is_busy() -> bool:
    """Whether work that was given up still runs; Python might crash where it ends beside it."""
    return any(thread.is_alive() for thread in _threads)
