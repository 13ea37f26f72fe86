"""What is asked of a checkpoint besides its content: whether it is as it was saved, fits, and is whole on the disk."""

import errno
import itertools
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from vitjax.checkpoints.folders import CheckpointError, CorruptCheckpoint, Entry
from vitjax.checkpoints.leaves import checksums

_LACKING = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EACCES, errno.EPERM)  # what harms no checkpoint


def unreadable(path: Path, error: BaseException) -> CheckpointError:
    """The error for what cannot be read: it is damaged, unless memory, open files or rights are lacking just now."""
    reason = str(error).split(" [tensorstore_spec")[0] or type(error).__name__
    told = ("RESOURCE_EXHAUSTED", *map(os.strerror, _LACKING))  # by TensorStore, whose errors have no number
    cause: BaseException | None = error
    while cause is not None:
        is_lack = isinstance(cause, MemoryError) or getattr(cause, "errno", None) in _LACKING
        if is_lack or any(text in str(cause) for text in told):
            return CheckpointError(f"{path} cannot be read now, and is left as it is: {reason}")
        cause = cause.__cause__ or cause.__context__
    return CorruptCheckpoint(f"{path} cannot be read: {reason}")


def altered(arrays: Mapping[str, np.ndarray], entries: Mapping[str, Entry]) -> list[str]:
    """The paths at which an array has not the shape, dtype or bytes that are on record of it."""

    def kind(array: np.ndarray, entry: Entry) -> bool:
        if entry.key:  # the data of a key has an axis more
            return array.shape[: len(entry.shape)] == entry.shape
        return (array.shape, array.dtype.name) == (entry.shape, entry.dtype)

    found = zip(entries.items(), checksums(arrays[path] for path in entries), strict=True)
    return [path for (path, entry), crc32 in found if entry.crc32 not in (None, crc32) or not kind(arrays[path], entry)]


def differences(saved: Mapping[str, Entry], wanted: Mapping[str, Entry], most: int = 20) -> list[str]:
    """One line for each path at which the two do not have the same shape and dtype; beyond `most` how many more."""
    lines = []
    for path in sorted(saved.keys() | wanted.keys()):
        mine, yours = (str(entries.get(path, "nothing")) for entries in (saved, wanted))
        if mine != yours:
            lines.append(f"{path or 'the leaf'}: {mine} in the checkpoint, {yours} wanted")
    return lines if len(lines) <= most else [*lines[:most], f"... and {len(lines) - most} more"]


def set_aside(directory: Path, steps: Iterable[int]) -> None:
    """Renames the folders of steps, or whatever has their name, to '<step>.damaged'.

    A number is put behind it where the name is taken.
    """
    for step in steps:
        names = (directory / f"{step}.damaged{count or ''}" for count in itertools.count())
        if os.path.lexists(folder := directory / str(step)):
            folder.rename(next(name for name in names if not os.path.lexists(name)))


def flush_files(folder: Path) -> None:
    """Returns when all files in a folder are on the disk, and not only on their way there. Raises an OSError."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
