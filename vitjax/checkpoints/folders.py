"""The folders of checkpoints on disk, named after their steps, and the record in each."""

import itertools
import json
from collections.abc import Iterable
from pathlib import Path

from vitjax.checkpoints.record import Record
from vitjax.checkpoints.writing import replace_text
from vitjax.errors import VitjaxError

RECORD = Path("record", "record.json")


class CheckpointError(VitjaxError):
    """A checkpoint that is not there, does not fit or cannot be written; the message names folder and paths."""


class CorruptCheckpoint(CheckpointError):
    """A checkpoint whose files are damaged or incomplete."""


def steps_in(directory: Path) -> list[int]:
    """The steps that have a folder, complete or not, ascending; none where the directory is not there."""
    if not directory.is_dir():
        return []
    names = (path.name for path in directory.iterdir() if path.is_dir())
    return sorted(int(name) for name in names if name.isdecimal() and str(int(name)) == name)


def is_complete(directory: Path, step: int) -> bool:
    """Whether the folder of the step was written to its end."""
    return (directory / str(step) / RECORD).is_file()


def read_record(directory: Path, step: int) -> Record:
    """The record of the step.

    Raises:
        CheckpointError: there is no such step.
        CorruptCheckpoint: its record is missing or is not as it was written.
    """
    folder = directory / str(step)
    if not folder.is_dir():
        raise CheckpointError(f"there is no step {step} in {directory}; the steps there are {steps_in(directory)}")
    try:
        return Record.from_json(json.loads((folder / RECORD).read_text()))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CorruptCheckpoint(f"{folder / RECORD} cannot be read: {error}") from error


def write_record(directory: Path, step: int, record: Record) -> None:
    """Replaces the record of the step as a whole.

    Raises:
        OSError: it cannot be written; it then is as it was.
    """
    replace_text(directory / str(step) / RECORD, json.dumps(record.to_json()))


def set_aside(directory: Path, steps: Iterable[int]) -> None:
    """Renames the folders of steps to '<step>.damaged', with a number behind it where the name is taken."""
    for step in steps:
        names = (directory / f"{step}.damaged{count or ''}" for count in itertools.count())
        if (folder := directory / str(step)).is_dir():
            folder.rename(next(name for name in names if not name.exists()))
