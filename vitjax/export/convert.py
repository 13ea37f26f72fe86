"""A model from one layout to another: run folders, official files, and folders in Hugging Face's layout."""

import dataclasses
import textwrap
from pathlib import Path
from typing import Any, Literal

from vitjax.checkpoints.store import Store
from vitjax.checkpoints.writing import writing
from vitjax.data.errors import DataError
from vitjax.families.family import Notes
from vitjax.families.huggingface.folder import write_folder
from vitjax.families.huggingface.form import form_of
from vitjax.families.known import family_of
from vitjax.families.model_file import ModelFile
from vitjax.formats.tables import PublishedError
from vitjax.runs.experiment import Experiment
from vitjax.runs.identity import changed_fields
from vitjax.runs.own_file import write_own
from vitjax.runs.read_model import read_model, write_official
from vitjax.runs.run_folder import checkpoints_of, write_run
from vitjax.runs.serialize import to_json
from vitjax.tasks import experiment_of

OFFICIAL = (".pth", ".safetensors")

Layout = Literal["run", "official", "huggingface"]


def convert(source: str, out: Path, *, to: Layout | None = None, step: int | None = None) -> ModelFile:
    """Reads the model `source` and writes it to `out`; gives what was read.

    Without `to`, a name in .pth or .safetensors asks for the official layout, or for vitjax's own names where no
    published code has the model, and any other for a run folder. Of a model with masks that Hugging Face's library does
    not have the detector is written for it.

    Raises:
        CannotWrite or DataError: there is no such model, or `out` cannot be written; what was there stays.
        PublishedError: tensors do not fit a known model, or the layout asked for has no such model.
    """
    layout = to or ("official" if out.suffix in OFFICIAL else "run")
    if layout == "official" and out.suffix not in OFFICIAL:
        raise DataError(f"an official file ends in {' or '.join(OFFICIAL)}; got {out}.")
    with writing(out, "OUT", file=layout == "official"):
        file = read_model(source, step=step)
        if to == "official":
            write_official(file, out)
        elif layout == "official":
            file = dataclasses.replace(file, notes=(*file.notes, *_write_file(file, out)))
        elif layout == "huggingface":
            file = file if form_of(family_of(file.model)) else file.without_masks()
            write_folder(out, file)
        else:
            write_run_folder(file, out)
    return file


def _write_file(file: ModelFile, out: Path) -> Notes:
    """Writes official names where a published code has the model, else our own; gives lines on that for people."""
    try:
        again = write_official(file, out, readable=True)
    except PublishedError as error:
        write_own(out, file.variables, default_experiment(file), file.classes)
        return (
            f"note: no published code has this model ({_reason(error)}), so the tensors have vitjax's own names: "
            "vitjax reads the file as it reads a run, torch and safetensors see tensors",
        )
    assert again is not None
    lines = changed_fields(to_json(file.model), to_json(again.model))
    said = [line.replace(" there, ", " here, ").removesuffix(" now") for line in lines]
    return tuple(f"note: no tensor tells of {line} when read" for line in said)


def _reason(error: Exception) -> str:
    """What does not fit, in less than a line."""
    lines = [line.strip().rstrip(".") for line in str(error).splitlines()]
    return textwrap.shorten(lines[min(1, len(lines) - 1)], 120, placeholder=" ...")


def write_run_folder(file: ModelFile, run: Path) -> None:
    """Writes a run folder whose one checkpoint, of step 0, is the model; it cannot be trained on, only started from.

    Raises:
        DataError: there is something at `run` already.
    """
    if run.exists() and (not run.is_dir() or any(run.iterdir())):
        raise DataError(f"{run} is there already; name a folder that is not.")
    params, constants = file.variables["params"], {k: v for k, v in file.variables.items() if k != "params"}
    state = {"trainable": params, "frozen": {}, "constants": constants}
    write_run(run, default_experiment(file), file.classes)
    with Store(checkpoints_of(run)) as store:
        store.save(0, state, metrics={}, notes={"classes": dataclasses.asdict(file.classes)})


def default_experiment(file: ModelFile) -> Experiment:
    """The experiment of a model that was not trained here: everything that is not the model's own is a default.

    Raises:
        DataError: the model is of no known family.
    """
    family = family_of(file.model)
    if family is None:
        raise DataError(f"{type(file.model).__name__} is of no known family, so what it is trained with is not known.")
    kind: Any = experiment_of(file.model)
    parts = {"model": file.model, "loss": family.loss(), "resize": file.resize, "postprocess": file.postprocess}
    return kind(**parts, data=kind.data_of(file.classes), matmul_precision=file.matmul_precision)
