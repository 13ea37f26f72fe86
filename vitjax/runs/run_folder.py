"""What a run folder holds besides checkpoints and metrics: the experiment, the classes, how it was made, and a lock."""

import dataclasses
import fcntl
import importlib.metadata
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitjax.checkpoints.writing import replace_text
from vitjax.data.errors import DataError
from vitjax.data.source import Classes
from vitjax.errors import VitjaxError
from vitjax.runs.experiment import Experiment
from vitjax.runs.serialize import NoExperiment, UnknownClass, from_json, to_json

if TYPE_CHECKING:
    from vitjax.runs.configs import Config

CONFIG_COPY = "config.py"
"""The text of the config that a run came from; it is read by people, and by those who name it as --config."""

_FILE, _LOCK = "experiment.json", "lock"
_PACKAGES = ("vitjax", "jax", "flax", "optax", "orbax-checkpoint", "numpy")


class RunInUse(VitjaxError):
    """Another process trains into the run folder."""


@dataclasses.dataclass(frozen=True)
class Stored:
    """What experiment.json says: the experiment as JSON of this version of vitjax, and what the labels mean."""

    experiment: dict[str, Any]
    classes: Classes


def checkpoints_of(run: Path) -> Path:
    """Where the run's checkpoints lie."""
    return run / "checkpoints"


def run_and_step(path: Path) -> tuple[Path, int | None]:
    """The run folder of a path, and the step where it is that of one checkpoint, `run/checkpoints/step`."""
    run = path.parent.parent
    if path.name.isdecimal() and path.parent == checkpoints_of(run):
        return run, int(path.name)
    return path, None


def is_run(path: Path) -> bool:
    """Whether the path is a run folder."""
    return (path / _FILE).is_file()


def write_run(run: Path, experiment: Experiment, classes: Classes, config: "Config | None" = None) -> None:
    """Writes experiment.json, and the text of the config; each is replaced as a whole.

    Raises:
        DataError: it cannot be written, as on a full disk; what was there stays.
    """
    content = {
        "experiment": to_json(experiment),
        "classes": {name: value for name, value in dataclasses.asdict(classes).items() if value or name != "stuff"},
        "config": None if config is None else {"name": config.name, "path": str(config.path)},
        "command": sys.argv,
        "versions": {name: _version(name) for name in _PACKAGES} | {"python": sys.version.split()[0]},
        "commit": _commit(),
    }
    try:
        run.mkdir(parents=True, exist_ok=True)
        if config is not None:
            replace_text(run / CONFIG_COPY, config.source)
        replace_text(run / _FILE, json.dumps(content, indent=2) + "\n")
    except OSError as error:
        raise DataError(f"{run / _FILE} cannot be written: {error}. What was there stays.") from error


@contextmanager
def locked(run: Path) -> Iterator[None]:
    """Holds the run folder for this process; the file stays, for to remove it could remove the lock of another one.

    Raises:
        RunInUse: another process holds it.
    """
    with (run / _LOCK).open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            holder = file.read().strip() or "another process"
            raise RunInUse(
                f"{run} is being trained by {holder}; wait for it, end it, or give another --workdir."
            ) from error
        except OSError as error:  # the file system knows no locks, as Lustre may
            told = f"{run} cannot be locked: {error.strerror}; let no second run train into it"
            print(f"warning: {told}", file=sys.stderr, flush=True)
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        yield


def read_run(run: Path) -> tuple[Experiment, Classes]:
    """The experiment of a run, with the number of classes filled in, and what its labels mean.

    Raises:
        DataError: the folder is no run, or its experiment cannot be read.
        UnknownClass: it has a class of a config that has not been loaded.
    """
    content = _content(run)
    return experiment_in(content, run / _FILE, _where(run)), classes_in(content, run / _FILE)


def read_stored(run: Path) -> Stored:
    """What is stored of a run, for comparison with another start of it; classes of users need not be known.

    Raises:
        DataError: as `read_run`.
    """
    content = _content(run)
    try:
        experiment = to_json(experiment_in(content, run / _FILE))
    except UnknownClass:
        experiment = content["experiment"]
    return Stored(experiment, classes_in(content, run / _FILE))


def _content(run: Path) -> dict[str, Any]:
    path = run / _FILE
    if not path.is_file():
        raise DataError(f"{run} is not a run folder: it has no {_FILE}. Give the --workdir that train.py wrote.")
    text = path.read_text(encoding="utf-8", errors="replace")
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        state = "nested too deep" if isinstance(error, RecursionError) else f"cut or no JSON ({error})"
        raise DataError(f"{path} cannot be read: it is {state if text.strip() else 'empty'}.") from error
    if not isinstance(content, dict) or not isinstance(content.get("experiment"), dict):
        raise DataError(f"{path} cannot be read: it has no 'experiment' with fields.")
    return content


def experiment_in(content: dict[str, Any], place: Path, hint: str = "") -> Experiment:
    """The experiment in what has been read from a place; `hint` says where the text of its config is.

    Raises:
        DataError: it cannot be read.
        UnknownClass: it has a class of a config that has not been loaded.
    """
    try:
        return from_json(content["experiment"], Experiment)
    except UnknownClass as error:
        raise UnknownClass(f"{place}, {error}{hint}") from error
    except (NoExperiment, RecursionError) as error:
        raise DataError(f"{place} cannot be read: {error} It may be of another version of vitjax.") from error


def classes_in(content: dict[str, Any], place: Path) -> Classes:
    """The classes in what has been read from a place.

    Raises:
        DataError: there are none.
    """
    try:
        names, ids = (tuple(content["classes"][key]) for key in ("names", "category_ids"))
        stuff = tuple(content["classes"].get("stuff", ()))
    except (KeyError, TypeError) as error:
        raise DataError(f"{place} cannot be read: it has no 'classes' with names and category_ids.") from error
    if len(names) != len(ids) or not all(isinstance(name, str) for name in names):
        raise DataError(f"{place} cannot be read: classes need as many names, which are texts, as category_ids.")
    if not all(isinstance(number, int) for number in (*ids, *stuff)):
        raise DataError(f"{place} cannot be read: category_ids and stuff are whole numbers.")
    return Classes(names, ids, stuff)


def _where(run: Path) -> str:
    """Where the text of the run's own config is, for whoever wants to give their word for it."""
    return f" Its text is in {run / CONFIG_COPY}: read it first." if (run / CONFIG_COPY).is_file() else ""


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The commit of the checkout that vitjax runs from, if it is one."""
    here = Path(__file__).resolve().parent
    try:
        answer = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() or None
