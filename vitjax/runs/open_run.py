"""The one gate to a run folder: who trains into it, and that it goes on as the run that it is."""

import contextlib
import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitjax.checkpoints.folders import steps_in
from vitjax.checkpoints.writing import writing
from vitjax.data.source import Classes
from vitjax.errors import VitjaxError
from vitjax.runs.experiment import Experiment
from vitjax.runs.identity import class_differences, differences
from vitjax.runs.run_folder import checkpoints_of, is_run, locked, read_stored, write_run
from vitjax.runs.serialize import NoExperiment, UnknownClass, from_json, to_json

if TYPE_CHECKING:
    from vitjax.runs.configs import Config

OF_START = ("init_from", "match_classes", "from_scratch")  # what a run that goes on takes from its first start


class AnotherRun(VitjaxError):
    """A folder holds a run that this one is not; the message lists what differs, old and new."""


@dataclasses.dataclass(frozen=True)
class OpenRun:
    """A run folder that this process holds, with the experiment as it goes on."""

    folder: Path
    experiment: Experiment
    classes: Classes
    config: "Config | None"

    def record(self) -> None:
        """Writes what the run is now; not before its weights are there, so a start that fails leaves all as it was."""
        write_run(self.folder, self.experiment, self.classes, self.config)


@contextlib.contextmanager
def open_run(
    run: Path, experiment: Experiment, classes: Classes, *, config: "Config | None" = None
) -> Iterator[OpenRun]:
    """Holds the run folder for this process, where the experiment and the classes of its data are those of its run.

    A folder without checkpoints holds nothing that could be falsified, and takes any. Nothing but the lock is written.
    Data are named by absolute paths from here on; those that have moved are the same.

    Raises:
        AnotherRun: a field differs that must not change between two starts of one run, or a label.
        RunInUse: another process trains into the folder.
        NoExperiment: a class in the experiment could not be found again, or no field takes a part.
        CannotWrite: the folder cannot be made.
        DataError: the folder's experiment cannot be read.
    """
    experiment = dataclasses.replace(experiment, data=_placed(experiment.data))
    content = to_json(experiment)
    _require_readable(content)
    with contextlib.suppress(UnknownClass):  # of a user: whoever reads the run names the config
        from_json(content, type(experiment))
    require_same_run(run, experiment, classes)  # before the lock, for a folder that is refused stays as it is
    with writing(run, "--workdir"):
        run.mkdir(parents=True, exist_ok=True)
    with locked(run):
        require_same_run(run, experiment, classes)
        yield OpenRun(run, _going_on(run, experiment), classes, config)


def require_same_run(run: Path, experiment: Experiment, classes: Classes) -> None:
    """Passes where the folder has no checkpoint, or is of this very run.

    Raises:
        AnotherRun: a field that must not change, or a label, differs.
        DataError: the folder's experiment cannot be read.
    """
    if not (is_run(run) and steps_in(checkpoints_of(run))):
        return
    stored = read_stored(run)
    lines = differences(stored.experiment, to_json(experiment)) + class_differences(stored.classes, classes)
    if lines:
        wish = (
            "Give another --workdir; or --fork, which starts a new run folder from the weights of this one (with "
            "--match-classes where classes changed their places)."
        )
        raise AnotherRun("\n  ".join([f"{run} holds another run:", *lines]) + f"\n{wish}")


def _placed(data: Any) -> Any:
    """Data whose folder is an absolute path, so that the run can be used from any working directory."""
    given = {name: getattr(data, name, None) for name in ("root", "data_dir")}
    paths = {name: os.path.expanduser(path) for name, path in given.items() if isinstance(path, str) and path}
    there = {name: os.path.abspath(path) for name, path in paths.items() if os.path.isdir(path)}
    return dataclasses.replace(data, **there) if there else data


def _going_on(run: Path, experiment: Experiment) -> Experiment:
    """The experiment with the source of the first weights that the run had, where none is said."""
    if experiment.init_from or not (is_run(run) and steps_in(checkpoints_of(run))):
        return experiment
    stored: dict[str, Any] = read_stored(run).experiment
    return dataclasses.replace(experiment, **{name: stored[name] for name in OF_START if name in stored})


def _require_readable(content: Any) -> None:
    """Raises a NoExperiment now, and not after days, for a class that nobody could find again."""
    if isinstance(content, dict):
        if "<locals>" in str(content.get("class")):
            raise NoExperiment(f"{content['class']} could not be found again; define it at the top level of its file.")
        content = list(content.values())
    for entry in content if isinstance(content, list) else ():
        _require_readable(entry)
