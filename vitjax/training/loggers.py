"""W&B and MLflow, to which a run's numbers and pictures go besides its own files; none of them is a requirement."""

import importlib
import json
import os
import re
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import jax
import numpy as np
from jaxtyping import UInt8

from vitjax.checkpoints.writing import replace_text
from vitjax.errors import FieldError, VitjaxError
from vitjax.runs.experiment import Experiment
from vitjax.runs.serialize import to_json

_PACKAGES = {"wandb": ("W&B", "init"), "mlflow": ("MLflow", "start_run")}
_FILE = "loggers.json"
_PROJECT = "vitjax"
_AT_ONCE = 100  # parameters that MLflow takes in one request
_LONGEST = 500  # characters of a parameter that every version of MLflow takes


class Logger(Protocol):
    """What is told of a run's numbers and pictures, by step."""

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Takes finite numbers by name, such as "val/AP"."""

    def image(self, step: int, name: str, picture: UInt8[np.ndarray, "height width 3"]) -> None:
        """Takes a picture."""

    def close(self, failed: bool) -> None:
        """Ends the run there; `failed` says that it ended by an error."""


def require_packages(names: Sequence[str]) -> None:
    """Passes where the packages of the loggers are installed.

    Raises:
        FieldError: one is not, or there is no such logger.
    """
    for name in names:
        if name not in _PACKAGES:
            raise FieldError(f"loggers are {' and '.join(_PACKAGES)}; got {name!r}.")
        _module(name)


def _module(name: str) -> Any:
    title, needed = _PACKAGES[name]
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        raise FieldError(_missing(title, name)) from error
    if not hasattr(module, needed):  # a folder of that name where Python looks, such as W&B leaves behind
        raise FieldError(_missing(title, name))
    return module


def _missing(title: str, name: str) -> str:
    return f"{title} is not installed: pip install {name}, or leave out --loggers {name}."


def open_loggers(experiment: Experiment, workdir: Path) -> list[Logger]:
    """The loggers of a run; one that goes on goes on in the runs that are kept in its folder.

    Where one fails later the run goes on without it.

    Raises:
        FieldError: a package is not installed.
        VitjaxError: a run cannot be begun there.
    """
    if jax.process_index() > 0:  # the first process tells for all
        return []
    path = workdir / _FILE
    known = _known(path)
    opened: list[Logger] = []
    for name in dict.fromkeys(experiment.loggers):
        kind: Any = WandB if name == "wandb" else MLflow
        try:
            logger = kind(_module(name), workdir, to_json(experiment), known.get(name))
        except VitjaxError:
            raise
        except Exception as error:
            raise VitjaxError(f"{_PACKAGES[name][0]} cannot begin a run: {_line(error)}") from error
        known[name] = logger.id
        replace_text(path, json.dumps(known, indent=2) + "\n")
        opened.append(Guarded(_PACKAGES[name][0], logger))
    return opened


def _known(path: Path) -> dict[str, str]:
    """The ids of runs that are kept; none where the file is not there or damaged, for then others are begun."""
    try:
        known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except (ValueError, RecursionError):
        known = {}
    return {name: id_ for name, id_ in known.items() if isinstance(id_, str)} if isinstance(known, dict) else {}


class WandB:
    """A run of W&B; WANDB_PROJECT and its other variables are heeded."""

    def __init__(self, module: Any, workdir: Path, experiment: dict[str, Any], known: str | None) -> None:
        """Begins a run, or goes on with the one of the id that is known."""
        self._wandb, self.id = module, known or uuid.uuid4().hex[:12]
        project = os.environ.get("WANDB_PROJECT", _PROJECT)
        options = {"name": workdir.name, "dir": str(workdir), "config": experiment}
        self._run = module.init(project=project, id=self.id, resume="allow", **options)
        # W&B's own count of steps never goes back, as that of a run does that goes on from a checkpoint.
        self._run.define_metric("*", step_metric="step")

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Takes numbers."""
        self._run.log({"step": step, **values})

    def image(self, step: int, name: str, picture: UInt8[np.ndarray, "height width 3"]) -> None:
        """Takes a picture."""
        self._run.log({"step": step, name: self._wandb.Image(picture)})

    def close(self, failed: bool) -> None:
        """Sends what waits, and ends the run."""
        self._run.finish(exit_code=int(failed))


class MLflow:
    """A run of MLflow; MLFLOW_EXPERIMENT_NAME, MLFLOW_TRACKING_URI and its other variables are heeded."""

    def __init__(self, module: Any, workdir: Path, experiment: dict[str, Any], known: str | None) -> None:
        """Begins a run, or goes on with the one of the id that is known."""
        self._mlflow = module
        if not {"MLFLOW_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_ID", "MLFLOW_RUN_ID"} & os.environ.keys():
            module.set_experiment(_PROJECT)
        nested = module.active_run() is not None
        run = module.start_run(run_id=known, run_name=None if known else workdir.name, nested=nested)
        self.id = run.info.run_id
        if known is None:  # parameters cannot change afterwards
            parameters = [(_name(name), str(value)[:_LONGEST]) for name, value in _flat(experiment)]
            for start in range(0, len(parameters), _AT_ONCE):
                module.log_params(dict(parameters[start : start + _AT_ONCE]))

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Takes numbers."""
        self._mlflow.log_metrics({_name(name): value for name, value in values.items()}, step=step)

    def image(self, step: int, name: str, picture: UInt8[np.ndarray, "height width 3"]) -> None:
        """Takes a picture, as a file among the run's artifacts."""
        self._mlflow.log_image(picture, f"{_name(name)}/{step:08}.png")

    def close(self, failed: bool) -> None:
        """Ends the run."""
        self._mlflow.end_run("FAILED" if failed else "FINISHED")


class Guarded:
    """A logger that may fail, as a network does after hours: it is told once, and nothing more is given to it."""

    def __init__(self, title: str, logger: Logger) -> None:
        """Has it under its title."""
        self._title = title
        self._logger: Logger | None = logger

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Takes numbers."""
        self._give("scalars", step, values)

    def image(self, step: int, name: str, picture: UInt8[np.ndarray, "height width 3"]) -> None:
        """Takes a picture."""
        self._give("image", step, name, picture)

    def close(self, failed: bool) -> None:
        """Ends the run there."""
        self._give("close", failed)

    def _give(self, what: str, *given: Any) -> None:
        try:
            if self._logger is not None:
                getattr(self._logger, what)(*given)
        except Exception as error:
            self._logger = None
            print(f"note: {self._title} takes no more of this run ({_line(error)}); its own files go on", flush=True)


def _line(error: Exception) -> str:
    """The first line of an error."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _name(name: str) -> str:
    """A name in the characters that MLflow takes."""
    return re.sub(r"[^\w\-. /]", "_", name)


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """The plain values of nested dicts, by dotted name."""
    if not isinstance(value, dict):
        yield name, value
        return
    for key, entry in value.items():
        yield from _flat(entry, f"{name}.{key}" if name else key)
