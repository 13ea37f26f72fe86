"""Standard output and error that do without what cannot be written there, as where both go to a file on a full disk."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from vitjax.checkpoints.writing import disk_fault


@contextmanager
def forgiving_streams() -> Iterator[None]:
    """Lines that the disk does not take are lost, and what is done goes on; what is no text is written in escapes."""
    before = sys.stdout, sys.stderr
    for stream in before:
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    sys.stdout, sys.stderr = (_Forgiving(stream) for stream in before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
        for stream in filter(None, before):
            try:
                stream.flush()
            except OSError:  # else Python complains once more at its end, with an exit code of its own
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


class _Forgiving:
    """A stream but for errors of the disk; of one that was closed before Python began, a hole."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream or open(os.devnull, "w")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        self._try(self._stream.write, text)
        return len(text)

    def flush(self) -> None:
        self._try(self._stream.flush)

    def _try(self, work: Any, *given: Any) -> None:
        try:
            work(*given)
        except OSError as error:
            if disk_fault(error) is None:
                raise
