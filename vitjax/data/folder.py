"""What folders of data have in common: their root, the names of splits, and many small files on a slow disk."""

import errno
import os
import stat
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from io import BufferedReader
from pathlib import Path
from typing import TypeVar

from vitjax.data.errors import DataError

VALIDATION = ("val", "valid", "validation")
"""What the split to evaluate on is called."""

_AT_ONCE = 32  # items that a thread does in one go at most: woken for each, threads only wait for each other
_READERS = 16  # threads; on a network disk they wait most of the time

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def aliases(split: str) -> tuple[str, ...]:
    """The names that a split may have, its own first."""
    return (split, *(name for name in VALIDATION if name != split)) if split in VALIDATION else (split,)


def data_root(root: str, wish: str) -> Path:
    """The folder that the user has named.

    Raises:
        DataError: none is named, or it is not there; the sentence ends with the wish.
    """
    if not root:
        raise DataError(f"no data folder is given. {wish}")
    path = Path(root).expanduser()
    if not path.is_dir():
        from vitjax.data.near import did_you_mean

        fault = "is a file, not a folder" if path.exists() else "does not exist"
        raise DataError(f"the data folder {path} {fault}.{did_you_mean(path)} {wish}")
    return path


def open_file(path: Path) -> BufferedReader:
    """An ordinary file, opened for reading.

    Raises:
        OSError: it cannot be opened, or is a pipe or a device, of which there may never be an end.
    """
    file = open(path, "rb", opener=lambda path, flags: os.open(path, flags | getattr(os, "O_NONBLOCK", 0)))  # no wait
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "It is a pipe or a device, not a file")
    return file


def read_bytes(path: Path, wish: str = "") -> bytes:
    """What is in a file.

    Raises:
        DataError: it cannot be read; the sentence is followed by the wish.
    """
    try:
        with open_file(path) as file:
            return file.read()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}. {wish}".rstrip()) from error


def in_threads(work: Callable[[_Item], _Result], items: Iterable[_Item]) -> list[_Result]:
    """The results for all items, in their order."""
    items = list(items)
    size = min(_AT_ONCE, 1 + len(items) // (4 * _READERS))
    parts = [items[start : start + size] for start in range(0, len(items), size)]
    with ThreadPoolExecutor(_READERS) as pool:
        return [result for part in pool.map(lambda part: [work(item) for item in part], parts) for result in part]
