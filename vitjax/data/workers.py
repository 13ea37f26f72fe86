"""Worker processes that read batches ahead, and hand them over in files that are memory."""

import mmap
import multiprocessing
import os
import pickle
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import cloudpickle
import cv2

from vitjax.batch import Batch
from vitjax.errors import VitjaxError

# JAX takes over arrays that begin at multiples of this without copying them.
_ALIGNED = 64


class WorkerDied(VitjaxError):
    """A process that reads images was ended by something else than what it reads."""

    exit_code = 75


@contextmanager
def processes(
    loading: Callable[[int], Batch], workers: int, shared: Path | None
) -> Iterator[Callable[[int], Callable[[], Batch]]]:
    """Worker processes, which leave their arrays in files of a folder in `shared`, which is memory where there is such.

    They import what the source and the main script need; vitjax itself needs no JAX there.
    """
    with tempfile.TemporaryDirectory(prefix="vitjax-", dir=shared, ignore_cleanup_errors=True) as folder:
        spawn = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(workers, spawn, _start_worker, (cloudpickle.dumps(loading), folder))
        children = set[Any]()

        def ask(step: int) -> Callable[[], Batch]:
            with _told_of_the_dead(workers, children), _interrupts_later():
                left = pool.submit(_leave_batch, step)
                children.update(multiprocessing.active_children())
            return lambda: _answer(left)

        def _answer(left: Future[_Left]) -> Batch:
            with _told_of_the_dead(workers, children):
                return _taken(left.result())

        try:
            yield ask
        finally:
            pool.shutdown(cancel_futures=True)


@contextmanager
def _told_of_the_dead(workers: int, children: Collection[Any]) -> Iterator[None]:
    """Says in a sentence that a worker was ended, and by what."""
    try:
        yield
    except BrokenProcessPool as error:
        raise WorkerDied(
            f"one of the {workers} processes that read images was ended{_cause(children)}; "
            "fewer --workers need less memory, and --workers 0 needs none."
        ) from error


def _cause(children: Collection[Any]) -> str:
    """By what a worker was ended, as far as it is known; those that the pool then ends have SIGTERM."""
    until = time.monotonic() + 5
    while any(child.exitcode is None for child in children) and time.monotonic() < until:
        time.sleep(0.01)  # the pool is ending them
    codes = [code for child in children if (code := child.exitcode) not in (None, 0, -signal.SIGTERM)]
    if not codes:
        return ""
    if -codes[0] == signal.SIGKILL:
        return " by SIGKILL, as the system does where memory runs out"
    return f" by signal {-codes[0]}" if codes[0] < 0 else f", with the code {codes[0]}"


@contextmanager
def _interrupts_later() -> Iterator[None]:
    """Lets processes start whole, and start them deaf to interrupts, which are for their parent, who ends them.

    They keep the mask of the thread that starts them. In the parent another thread may take the signal all the same,
    and the main one would be torn out of its work half-way.
    """
    came: list[Any] = []
    in_main = threading.current_thread() is threading.main_thread()
    handler = signal.signal(signal.SIGINT, lambda *given: came.append(given)) if in_main else None
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if handler is not None:
            signal.signal(signal.SIGINT, handler)
    if came and callable(handler):
        handler(*came[0])


class _Left(NamedTuple):
    """A pickled batch whose arrays, of so many bytes, lie in a file one after the other."""

    pickled: bytes
    path: Path
    sizes: list[int]


def _leave_batch(step: int) -> _Left:
    """Runs in a worker process."""
    ((loading, folder),) = _started_with
    buffers: list[pickle.PickleBuffer] = []
    pickled = pickle.dumps(loading(step), protocol=5, buffer_callback=buffers.append)
    arrays = [buffer.raw() for buffer in buffers]
    path = Path(folder, str(step))
    try:
        with path.open("wb") as file:
            for array in arrays:
                file.write(array)
                file.write(bytes(-array.nbytes % _ALIGNED))
    except OSError as error:
        wish = "Use fewer workers, or start the container with more shared memory (docker run --shm-size)"
        raise VitjaxError(f"{path} cannot be written: {error.strerror}. {wish}.") from error
    return _Left(pickled, path, [array.nbytes for array in arrays])


def _taken(left: _Left) -> Batch:
    """The batch, whose arrays are the memory of the file, which is gone with them."""
    with left.path.open("rb") as file:
        memory = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))
    left.path.unlink()
    arrays, start = [], 0
    for size in left.sizes:
        arrays.append(memory[start : start + size])
        start += size + -size % _ALIGNED
    return pickle.loads(left.pickled, buffers=arrays)


_started_with: list[tuple[Callable[[int], Batch], str]] = []
"""What a worker process loads with, and the folder that it leaves batches in."""


def _start_worker(pickled: bytes, folder: str) -> None:
    """Runs in every worker process before it reads: one thread each, and no life after the parent's."""
    cv2.setNumThreads(1)
    threading.Thread(target=_end_with_parent, args=(folder,), daemon=True).start()
    _started_with.append((pickle.loads(pickled), folder))


def _end_with_parent(folder: str) -> None:
    """Ends this process when its parent is gone; else it outlives a parent that was killed, and the folder does.

    The kernel's own death signal would also come when only the thread ends that started the worker.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        shutil.rmtree(folder, ignore_errors=True)
        os._exit(1)
