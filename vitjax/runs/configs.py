"""Config files: found by name or path, and overridden from the command line."""

import dataclasses
import difflib
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import tyro

import vitjax
from vitjax.data.errors import DataError
from vitjax.runs.experiment import Experiment


@dataclasses.dataclass(frozen=True)
class Config:
    """A config file: its name, what its docstring says, and the experiment that it makes."""

    name: str
    text: str
    experiment: Experiment

    @property
    def title(self) -> str:
        """The first line of the docstring."""
        return self.text.partition("\n")[0]

    def said(self, label: str) -> str:
        """What stands behind `label:` in the docstring; "" where it is not there."""
        lines = [line.strip() for line in self.text.splitlines()]
        return next((line.removeprefix(f"{label}:").strip() for line in lines if line.startswith(f"{label}:")), "")


def folder() -> Path:
    """Where the named configs lie: beside the package in a checkout, inside it when installed."""
    package = Path(vitjax.__file__).resolve().parent
    beside = package.parent / "configs"
    return beside if (beside / "quickstart.py").is_file() else package / "configs"


def names() -> list[str]:
    """The names of all configs."""
    return sorted(path.stem for path in folder().glob("*.py") if path.stem != "__init__")


def load_config(name: str) -> Config:
    """The config of a name, or of a path to a user's own file.

    Raises:
        DataError: there is none, or its file has no `experiment()` that returns an Experiment.
    """
    path = folder() / f"{name}.py" if name in names() else Path(name)
    if not path.is_file():
        near = difflib.get_close_matches(name, names(), n=1)
        meant = f" Did you mean {near[0]}?" if near else ""
        raise DataError(f"there is no config {name!r}, by name or as a file.{meant} train.py --help lists the names.")
    module = _module(path)
    experiment = module.experiment() if hasattr(module, "experiment") else None
    if not isinstance(experiment, Experiment):
        raise DataError(f"{path} needs a function experiment() that returns a vitjax.runs.experiment.Experiment.")
    if experiment.workdir is None:
        experiment = dataclasses.replace(experiment, workdir=f"runs/{path.stem}")
    return Config(path.stem, (module.__doc__ or "").strip(), experiment)


def override(config: Config, arguments: Sequence[str]) -> Experiment:
    """The config's experiment with the fields that the command line names; exits with help or the nearest name."""
    return tyro.cli(
        Experiment,
        prog=f"train.py {config.name}",
        description=config.text,
        args=list(arguments),
        default=config.experiment,
        config=(tyro.conf.AvoidSubcommands, tyro.conf.FlagConversionOff),
    )


def _module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"vitjax_config_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise DataError(f"{path} is not a Python file; a config ends in .py.")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
