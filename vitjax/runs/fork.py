"""A new run from the weights of another: what `--fork` on the command line asks for."""

import dataclasses
import itertools
from collections.abc import Sequence
from pathlib import Path

from vitjax.checkpoints.folders import is_complete, steps_in
from vitjax.errors import FieldError
from vitjax.runs.experiment import Experiment
from vitjax.runs.run_folder import checkpoints_of

_WORD = "--fork"


def without_fork(words: Sequence[str]) -> tuple[list[str], str | None]:
    """The words of a command without `--fork [DIR]`, and DIR: "" where none is named, None without the word."""
    if _WORD not in words:
        return list(words), None
    place = words.index(_WORD)
    named = [word for word in words[place + 1 : place + 2] if not word.startswith("-")]
    return [*words[:place], *words[place + 1 + len(named) :]], "".join(named)


def forked(experiment: Experiment, folder: str = "") -> Experiment:
    """The experiment in a new run folder, from the latest checkpoint of the run in its workdir.

    Without a folder it is the workdir with the first number behind it that is free.

    Raises:
        FieldError: the workdir has no checkpoint, the folder is there already, or other weights are asked for.
    """
    run = Path(experiment.workdir or "runs/run")
    steps = [step for step in steps_in(checkpoints_of(run)) if is_complete(checkpoints_of(run), step)]
    if not steps:
        raise FieldError(f"--fork starts from the run in --workdir, and {run} has no checkpoint.")
    if experiment.init_from:
        raise FieldError(f"--fork starts from {run}, and --init-from {experiment.init_from} cannot be that too.")
    free = (path for count in itertools.count(2) if not (path := run.with_name(f"{run.name}-{count}")).exists())
    new = Path(folder) if folder else next(free)
    if new.exists():
        raise FieldError(f"--fork starts a new run folder, and {new} is there already; name another one.")
    weights = checkpoints_of(run) / str(steps[-1])
    return dataclasses.replace(experiment, workdir=str(new), init_from=str(weights))
