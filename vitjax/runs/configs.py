"""Config files: found by name or path, and overridden from the command line."""

import ast
import dataclasses
import difflib
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import cloudpickle
import tyro

import vitjax
from vitjax.data.errors import DataError
from vitjax.runs.experiment import Experiment
from vitjax.runs.serialize import CONFIG

FORK = """--fork [DIR] starts a new run folder (DIR; the workdir with a number behind it if left out) from the latest
weights of the run in --workdir, with this experiment: the way on with another learning rate, loss, data or model."""


@dataclasses.dataclass(frozen=True)
class Described:
    """A config file's name, and what its docstring says."""

    name: str
    text: str

    @property
    def title(self) -> str:
        """The first line of the docstring."""
        return self.text.partition("\n")[0]

    def said(self, label: str) -> str:
        """What stands behind `label:` in the docstring; "" where it is not there."""
        lines = [line.strip() for line in self.text.splitlines()]
        return next((line.removeprefix(f"{label}:").strip() for line in lines if line.startswith(f"{label}:")), "")


@dataclasses.dataclass(frozen=True)
class Config(Described):
    """A config file with the experiment that it makes, where it is and all its text."""

    experiment: Experiment
    path: Path
    source: str


def folder() -> Path:
    """Where the named configs lie: beside the package in a checkout, inside it when installed."""
    package = Path(vitjax.__file__).resolve().parent
    beside = package.parent / "configs"
    return beside if (beside / "quickstart.py").is_file() else package / "configs"


def names() -> list[str]:
    """The names of all configs."""
    return sorted(path.stem for path in folder().glob("*.py") if path.stem != "__init__")


def described() -> list[Described]:
    """What every named config says of itself; none is run, so this takes no time."""
    sources = {name: (folder() / f"{name}.py").read_text(encoding="utf-8") for name in names()}
    return [Described(name, ast.get_docstring(ast.parse(source)) or "") for name, source in sources.items()]


def load_config(name: str) -> Config:
    """The config of a name, or of a path to a user's own file.

    Raises:
        DataError: there is none, or its file has no `experiment()` that returns an Experiment.
    """
    path = _find(name)
    module = _module(path)
    experiment = module.experiment() if hasattr(module, "experiment") else None
    if not isinstance(experiment, Experiment):
        raise DataError(
            f"{path} needs a function experiment() that returns the experiment of a task, such as vitjax.Detection."
        )
    if experiment.workdir is None:
        experiment = dataclasses.replace(experiment, workdir=f"runs/{path.stem}")
    source = path.read_text(encoding="utf-8")
    return Config(path.stem, (module.__doc__ or "").strip(), experiment, path.resolve(), source)


def load_classes(name: str) -> None:
    """Runs a config for its classes: run folders that were made with them can then be read in this process.

    Raises:
        DataError: there is no such config.
    """
    _module(_find(name))


def override(config: Config, arguments: Sequence[str]) -> Experiment:
    """The config's experiment with the fields that the command line names; exits with help or the nearest name."""
    from vitjax.runs.booleans import flags  # which only a command line needs
    from vitjax.runs.short_words import SHORT_WORDS

    return tyro.cli(
        type(config.experiment),
        prog=f"train.py {config.name}",
        description=f"{config.text}\n\n{FORK}\n\n{SHORT_WORDS}",
        args=flags(arguments, config.experiment),
        default=config.experiment,
        config=(tyro.conf.AvoidSubcommands,),
    )


def _find(name: str) -> Path:
    path = folder() / f"{name}.py" if name in names() else Path(name)
    if not path.is_file():
        near = difflib.get_close_matches(name, names(), n=1)
        meant = f" Did you mean {near[0]}?" if near else ""
        raise DataError(f"there is no config {name!r}, by name or as a file.{meant} train.py --help lists the names.")
    return path


def _module(path: Path) -> ModuleType:
    """The module of a file, run; it stands among Python's modules, where dataclasses look up the types of fields."""
    name = f"{CONFIG}{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise DataError(f"{path} is not a Python file; a config ends in .py.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    cloudpickle.register_pickle_by_value(module)  # worker processes could not import it
    return module
