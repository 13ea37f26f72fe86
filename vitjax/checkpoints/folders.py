"""The folders of checkpoints on disk, named after their steps, and the record of the saved state in each."""

import json
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from vitjax.checkpoints.writing import replace_text
from vitjax.errors import VitjaxError

RECORD = Path("record", "record.json")


class CheckpointError(VitjaxError):
    """A checkpoint that is not there, does not fit or cannot be written; the message names folder and paths."""


class CorruptCheckpoint(CheckpointError):
    """A checkpoint whose files are damaged or incomplete."""


@dataclass(frozen=True)
class Entry:
    """What is on record of one leaf.

    `crc32` is that of its bytes in C order, None where no host held the whole array; `key` is the implementation of a
    typed random key.
    """

    shape: tuple[int, ...]
    dtype: str
    crc32: int | None = None
    key: str | None = None

    def __str__(self) -> str:
        """As in 'float32[256, 92]'."""
        return f"{self.dtype}[{', '.join(map(str, self.shape))}]"


@dataclass(frozen=True)
class Record:
    """The entries of a state by path, the paths of its parts without leaves, and what was said of it when saved."""

    entries: dict[str, Entry]
    empty: list[str]
    metrics: dict[str, float]
    notes: dict[str, Any]
    step: int | None = None  # that earlier versions have not said

    def to_json(self) -> dict[str, Any]:
        """The record with its own checksum. Raises a TypeError for notes that JSON cannot hold."""
        text = json.dumps(asdict(self), sort_keys=True)
        return {"crc32": zlib.crc32(text.encode()), "record": json.loads(text)}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Self:
        """The record that `to_json` gave.

        Raises:
            ValueError, KeyError, TypeError or AttributeError: the content is anything else.
        """
        fields = content["record"]
        if zlib.crc32(json.dumps(fields, sort_keys=True).encode()) != content["crc32"]:
            raise ValueError("its content does not have its checksum")
        entries = {path: Entry(**entry | {"shape": tuple(entry["shape"])}) for path, entry in fields["entries"].items()}
        return cls(entries, fields["empty"], fields["metrics"], fields["notes"], fields.get("step"))

    def under(self, key: str) -> dict[str, Entry]:
        """The entries at `key` and below it, by their paths from there; all of them where the key is empty."""
        root = f"{key}/" if key else ""
        below = {path.removeprefix(root): entry for path, entry in self.entries.items() if path.startswith(root)}
        return {"": self.entries[key]} if key in self.entries else below


def steps_in(directory: Path, *, whatever: bool = False) -> list[int]:
    """The steps that have a folder, complete or not, ascending; none where the directory is not there.

    With `whatever` also those whose name a file has, or a link to nowhere.
    """
    if not directory.is_dir():
        return []
    names = (path.name for path in directory.iterdir() if whatever or path.is_dir())
    return sorted(int(name) for name in names if name.isdecimal() and str(int(name)) == name)


def is_complete(directory: Path, step: int) -> bool:
    """Whether the folder of the step was written to its end."""
    return (directory / str(step) / RECORD).is_file()


def read_record(directory: Path, step: int) -> Record:
    """The record of the step.

    Raises:
        CheckpointError: there is no such step, or memory, open files or rights do not suffice to read it now.
        CorruptCheckpoint: its record is missing, is not as it was written, or is that of another step.
    """
    folder = directory / str(step)
    if not folder.is_dir():
        raise CheckpointError(f"there is no step {step} in {directory}; the steps there are {steps_in(directory)}")
    try:
        if not (folder / RECORD).is_file():  # of a pipe there would be no end
            raise FileNotFoundError("it is no file, or there is none")
        record = Record.from_json(json.loads((folder / RECORD).read_text()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, MemoryError) as error:
        from vitjax.checkpoints.damage import unreadable

        raise unreadable(folder / RECORD, error) from error
    if record.step not in (None, step):
        raise CorruptCheckpoint(f"{folder} holds what was saved as step {record.step}")
    return record


def write_record(directory: Path, step: int, record: Record) -> None:
    """Replaces the record of the step as a whole.

    Raises:
        OSError: it cannot be written; it then is as it was.
    """
    replace_text(directory / str(step) / RECORD, json.dumps(record.to_json()))
