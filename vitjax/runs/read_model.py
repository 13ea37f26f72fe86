"""Reading a model from whatever people have, and writing it as the official code reads it."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from vitjax.checkpoints.paths import flatten, unflatten
from vitjax.checkpoints.store import Store
from vitjax.data.errors import DataError
from vitjax.data.near import did_you_mean, near_path
from vitjax.families.huggingface import hub
from vitjax.families.huggingface.folder import WEIGHTS, is_folder, read_folder
from vitjax.families.identify import identify
from vitjax.families.installed import WHEELS, installed, is_installable
from vitjax.families.known import family_of
from vitjax.families.model_file import ModelFile
from vitjax.formats.tables import PublishedError, TensorFile
from vitjax.formats.tensor_files import read_tensors, write_tensors
from vitjax.runs.judgement import with_best_threshold
from vitjax.runs.own_file import own_model
from vitjax.runs.run_folder import checkpoints_of, is_run, read_run, run_and_step


class Found(NamedTuple):
    """What is at a place that people name, and where it lies on this machine; of a run maybe the one checkpoint."""

    kind: Literal["run", "file", "huggingface"]
    path: Path
    step: int | None = None


def find(source: str | Path) -> Found:
    """A run folder, a file, or a folder in Hugging Face's layout; a repository's name is fetched.

    Where nothing lies under a name of `families/installed.py`, it is the file in the installed package.

    Raises:
        DataError: there is nothing of the kind.
    """
    path = Path(source)
    if path.is_file():  # weights of transformers are nothing without the settings beside them
        beside = path.name in WEIGHTS and is_folder(path.parent)
        return Found("huggingface", path.parent) if beside else Found("file", path)
    run, step = run_and_step(path)
    if is_run(run) or checkpoints_of(run).is_dir():
        return Found("run", run, step)
    if is_folder(path):
        return Found("huggingface", path)
    if path.is_dir():
        raise DataError(
            f"{path} is neither a run folder nor one with config.json and weights in Hugging Face's layout."
            f"{_runs_in(path)}"
        )
    if is_installable(str(source)):
        return Found("file", installed(str(source)))
    near, repository = near_path(path), hub.is_repository(str(source))
    if near is not None and (is_run(near) or not repository):
        raise DataError(f"there is no {source}. Did you mean {near}?")
    if len(path.parts) > 1 and (runs := _runs_in(path.parent)):
        raise DataError(f"there is no {source}.{runs}")
    if repository:
        return Found("huggingface", hub.fetch(str(source)))
    raise DataError(
        f"there is no {source}; give a run folder, a .pth, .safetensors or .npz file, a repository's name, or "
        f"{' or '.join(WHEELS)}."
    )


def _runs_in(folder: Path) -> str:
    """A sentence with the first runs in a folder, a blank before it; "" where there is none."""
    runs = sorted(str(each) for each in folder.iterdir() if is_run(each)) if folder.is_dir() else []
    return f" The runs in {folder} are {', '.join([*runs[:5], *['...'] * (len(runs) > 5)])}." if runs else ""


def read_model(source: str | Path, *, step: int | None = None) -> ModelFile:
    """The model of a run folder, an official file, or a folder or repository in Hugging Face's layout.

    Of a run the best checkpoint is taken, or that of `step`. Files are .pth, .safetensors or .npz with the names of the
    official code of a family, or with vitjax's own.

    Raises:
        DataError: there is nothing of the kind, or it cannot be read.
        PublishedError: the tensors are not those of a model that is known; all that do not fit are listed.
    """
    if step is not None and not is_run(Path(source)):
        meant = did_you_mean(Path(source))
        raise DataError(f"{source} is not a run folder, so it has no checkpoint of step {step}.{meant}")
    found = find(source)
    if found.kind == "run":
        file = _read_run(found.path, found.step if step is None else step)
    else:
        file = read_file(found.path) if found.kind == "file" else read_folder(found.path)
        file = dataclasses.replace(file, origin=str(source))
    said = not_finite(flatten(file.variables))
    return dataclasses.replace(file, notes=(*file.notes, f"note: {source} {said}")) if said else file


def read_file(path: Path) -> ModelFile:
    """The model of a file with the names of an official code, or with our own.

    Raises:
        DataError or PublishedError: as `read_model`.
    """
    tensors = read_tensors(path)
    return own_model(tensors) or identify(tensors)


def not_finite(arrays: Mapping[str, Any]) -> str | None:
    """What is said of arrays that hold NaN or infinity, by the first of them; None where all is finite."""
    found = [path for path, array in arrays.items() if not np.isfinite(np.asarray(array)).all()]
    if not found:
        return None
    named = ", ".join([*found[:3], *["..."] * (len(found) > 3)])
    return f"has NaN or infinity in {len(found)} of its {len(arrays)} arrays: {named}"


def read_checkpoint(run: Path, step: int | None = None, *, metric: str = "AP") -> tuple[dict[str, Any], int]:
    """What `model.apply` takes, from a run's best checkpoint by a metric or that of a step, and which step it is.

    The averaged weights are taken where it has them, else the last.

    Raises:
        DataError: there is no such checkpoint.
    """
    with Store(checkpoints_of(run), metric=metric) as store:
        if not store.steps() or step not in (None, *store.steps()):
            there = ", ".join(map(str, store.steps())) or "none"
            raise DataError(f"{run} has no checkpoint{'' if step is None else f' of step {step}'}; there are: {there}.")
        if step is not None:
            return _variables(store, step), step
        chosen, variables = store.read_best(lambda best: _variables(store, best))
        return variables, chosen


def _variables(store: Store, step: int) -> dict[str, Any]:
    weights = "average" if store.holds(step, "average") else "trainable"
    trained, frozen, constants = (store.restore_subtree(step, key) for key in (weights, "frozen", "constants"))
    return {"params": unflatten(flatten(trained) | flatten(frozen)), **constants}


def write_official(file: ModelFile, path: Path, *, readable: bool = False) -> ModelFile | None:
    """Writes the weights with official names as .pth or .safetensors, shared heads under all their names.

    With `readable` only what can be read again as a model of these shapes, which then is given.

    Raises:
        PublishedError: the official code has no such model.
        DataError: the file cannot be written; one that was there stays.
    """
    family = family_of(file.model)
    if family is None or family.official is None:
        raise PublishedError(f"there is no official layout for a {type(file.model).__name__}.")
    tensors = family.official.tensors_of(file.model, file.variables)
    again = identify(TensorFile(dict(tensors), {}, path.name)) if readable else None
    write_tensors(path, dict(sorted(tensors.items())), under=family.official.under)
    return again


def _read_run(run: Path, step: int | None) -> ModelFile:
    experiment, classes = read_run(run)
    variables, chosen = read_checkpoint(run, step, metric=experiment.score)
    postprocess, shown_from = with_best_threshold(experiment.postprocess, run, chosen)
    return ModelFile(
        experiment.model,
        variables,
        classes,
        experiment.resize,
        postprocess,
        step=chosen,
        matmul_precision=experiment.matmul_precision,
        origin=f"{run}, step {chosen:,}{_why(run, chosen, step, experiment.score)}",
        shown_from=shown_from,
    )


def _why(run: Path, chosen: int, asked: int | None, metric: str) -> str:
    """Why a checkpoint is taken, as the end of a phrase: its score is the best of those that are kept."""
    if asked is not None:
        return ""
    with Store(checkpoints_of(run), metric=metric) as store:
        score = store.metrics(chosen).get(metric)
        if score is None:
            return ", the latest"
        return f", the best by {metric} ({score:.3f})" if chosen == store.best_step() else f", {metric} {score:.3f}"
