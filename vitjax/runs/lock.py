"""One process trains into a run folder: a lock that ends with the process that holds it, however it ends."""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vitjax.errors import VitjaxError

FILE = "lock"


class RunInUse(VitjaxError):
    """Another process trains into the run folder."""


@contextmanager
def locked(run: Path) -> Iterator[None]:
    """Holds the run folder for this process; the file stays, for to remove it could remove the lock of another one.

    Raises:
        RunInUse: another process holds it.
    """
    with (run / FILE).open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            holder = file.read().strip() or "another process"
            raise RunInUse(
                f"{run} is being trained by {holder}; wait for it, end it, or give another --workdir."
            ) from error
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        yield
