"""Folders and files that are written: whether they can be, and replaced as a whole, also in a crash."""

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from vitjax.errors import VitjaxError

_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
_FULL = 2**16  # bytes; of less no picture can be written


NOT_WRITTEN = 74
"""The exit code of a command that could not write all of its outcome (EX_IOERR of BSD's sysexits.h)."""


class CannotWrite(VitjaxError):
    """A folder or file cannot be written; the message says why."""


class NoMoreRoom(CannotWrite):
    """What was written first could not be written to its end, as on a disk that got full."""

    exit_code = NOT_WRITTEN


@contextmanager
def writing(path: Path | None, option: str, *, file: bool = False) -> Iterator[None]:
    """Around the work whose outcome goes into the folder `path`, or is the `file`; None is nowhere.

    Nothing is made. What shows only later, as on a disk that gets full, ends the work with the same line.

    Raises:
        CannotWrite: it cannot be written; the message ends with the option that names another.
    """
    if path is None:
        yield
        return
    if fault := _fault(path, file):
        raise CannotWrite(f"{path} cannot be written: {fault}. Give another {option}.")
    try:
        yield
    except OSError as error:
        folder = path.parent if file else path
        name = error.filename if isinstance(error.filename, str) else None
        within = name is not None and Path(os.path.abspath(name)).is_relative_to(os.path.abspath(folder))
        if not within and (name is not None or not _is_about_the_disk(error, folder)):
            raise
        reason = error.strerror or os.strerror(errno.ENOSPC)
        raise NoMoreRoom(f"{name or path} cannot be written: {reason}. Give another {option}.") from error


def _fault(path: Path, file: bool) -> str:
    """Why it cannot be written, as far as that shows before; "" where nothing does."""
    if file and os.path.isdir(path):
        return "it is a folder, not a file"
    if file and os.path.exists(path) and not os.access(path, os.W_OK):
        return os.strerror(errno.EACCES)
    folder = os.path.abspath(path.parent if file else path)
    while not os.path.lexists(folder):
        folder = os.path.dirname(folder)
    if not os.path.isdir(folder):
        whose = "it" if folder == os.path.abspath(path) else folder
        return f"{whose} is a file, not a folder" if os.path.exists(folder) else f"{whose} is a link to nowhere"
    disk = os.statvfs(folder)
    if disk.f_flag & os.ST_RDONLY:
        return os.strerror(errno.EROFS)
    if not os.access(folder, os.W_OK | os.X_OK):
        return os.strerror(errno.EACCES)
    free = disk.f_bfree if os.geteuid() == 0 else disk.f_bavail
    return os.strerror(errno.ENOSPC) if disk.f_blocks and not free else ""


def disk_fault(error: BaseException) -> str | None:
    """What an error says of the disk, in the system's words, such as that it is full; None where it says nothing."""
    if isinstance(error, OSError) and error.errno is not None:
        return os.strerror(error.errno) if error.errno in _DISK else None
    words = str(error)  # TensorStore has it amid all of its paths
    return next((text for code in _DISK if (text := os.strerror(code)) in words), None)


def _is_about_the_disk(error: OSError, folder: Path) -> bool:
    """Whether an error without a file's name says that the disk is full, or comes where it is."""
    if error.errno is not None:
        return disk_fault(error) is not None
    with suppress(OSError):
        return shutil.disk_usage(folder).free < _FULL
    return False


class AppendedFile:
    """A file that grows by whole records: of one that cannot be written nothing stays."""

    def __init__(self, path: Path) -> None:
        """Opens it at its end."""
        self._file = path.open("ab", buffering=0)

    def append(self, record: bytes) -> None:
        """Writes at the end. Raises an OSError where that cannot be; the file is then as it was."""
        end, rest = os.fstat(self._file.fileno()).st_size, memoryview(record)
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError:
            with suppress(OSError):
                self._file.truncate(end)
            raise

    def close(self) -> None:
        """Closes it; a second call does nothing."""
        self._file.close()


def replace_text(path: Path, text: str) -> None:
    """Writes the text to the path as `replace_file` does."""
    replace_file(path, lambda file: file.write(text.encode()))


def replace_file(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Lets `write` make the file; one that is there stays as it is until the new one is whole on the disk.

    Raises:
        OSError: it cannot be written, as on a full disk; what was there stays.
    """
    fresh = path.with_name(f"{path.name}.part")
    try:
        with fresh.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except OSError:
        with suppress(OSError):
            fresh.unlink()
        raise
