"""What a run folder holds besides checkpoints and metrics: the experiment, the classes, and how it was made."""

import dataclasses
import importlib.metadata
import json
import subprocess
import sys
from pathlib import Path

from vitjax.data.errors import DataError
from vitjax.data.source import Classes
from vitjax.runs.experiment import Experiment
from vitjax.runs.serialize import from_json, to_json

_FILE = "experiment.json"
_PACKAGES = ("vitjax", "jax", "flax", "optax", "orbax-checkpoint", "numpy")


def checkpoints_of(run: Path) -> Path:
    """Where the run's checkpoints lie."""
    return run / "checkpoints"


def is_run(path: Path) -> bool:
    """Whether the path is a run folder."""
    return (path / _FILE).is_file()


def write_run(run: Path, experiment: Experiment, classes: Classes) -> None:
    """Writes experiment.json; a resumed run overwrites it with what it is now run with."""
    run.mkdir(parents=True, exist_ok=True)
    content = {
        "experiment": to_json(experiment),
        "classes": dataclasses.asdict(classes),
        "command": sys.argv,
        "versions": {name: _version(name) for name in _PACKAGES} | {"python": sys.version.split()[0]},
        "commit": _commit(),
    }
    (run / _FILE).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def read_run(run: Path) -> tuple[Experiment, Classes]:
    """The experiment of a run, with the number of classes filled in, and what its labels mean.

    Raises:
        DataError: the folder is no run, or its experiment cannot be read.
    """
    if not is_run(run):
        raise DataError(f"{run} is not a run folder: it has no {_FILE}. Give the --workdir that train.py wrote.")
    try:
        content = json.loads((run / _FILE).read_text(encoding="utf-8"))
        experiment = from_json(content["experiment"])
        classes = Classes(tuple(content["classes"]["names"]), tuple(content["classes"]["category_ids"]))
    except (ValueError, KeyError) as error:
        raise DataError(f"{run / _FILE} cannot be read: {error}. It may be of another version of vitjax.") from error
    return experiment, classes


def require_same_model(run: Path, experiment: Experiment) -> None:
    """Raises a DataError where the folder holds a run of another kind of model, which cannot be gone on with."""
    if not is_run(run):
        return
    content = json.loads((run / _FILE).read_text(encoding="utf-8"))
    kinds = (content["experiment"]["model"]["class"], to_json(experiment.model)["class"])
    before, now = (kind.rpartition(".")[-1] for kind in kinds)
    if before != now:
        raise DataError(f"{run} holds a run of a {before} and this one is a {now}; give another folder as --workdir.")


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
