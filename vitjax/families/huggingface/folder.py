"""Folders in Hugging Face's layout: a model's settings, its weights, and how images are prepared for it."""

import dataclasses
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vitjax.data.errors import DataError
from vitjax.data.transforms import Resize
from vitjax.families.huggingface.config import classes_in, config_of, model_in
from vitjax.families.huggingface.form import every_form, form_of
from vitjax.families.huggingface.names import backbone_of
from vitjax.families.huggingface.processor import processor_of, resize_of
from vitjax.families.huggingface.timm import crop_in, is_timm
from vitjax.families.identify import detector_tensors, identify
from vitjax.families.known import family_of
from vitjax.families.model_file import ModelFile, shapes_of
from vitjax.formats.tables import Arrays, TensorFile, from_published, to_published
from vitjax.formats.tensor_files import read_tensors, write_tensors

CONFIG, PROCESSOR = "config.json", "preprocessor_config.json"
WEIGHTS = ("model.safetensors", "pytorch_model.bin")  # or parts of one, which <name>.index.json lists


def is_folder(path: Path) -> bool:
    """Whether the path is a folder with config.json and weights."""
    return (path / CONFIG).is_file() and _weights(path) is not None


def read_folder(path: Path) -> ModelFile:
    """The model in a folder of transformers or timm; where config.json says that it is a detector, without masks.

    Raises:
        DataError: a file cannot be read, or config.json has an option that there is not here.
        PublishedError: the tensors do not fit the model of config.json; all that do not are listed.
    """
    config = _read_json(path / CONFIG)
    if (file := timm_file(path)) is not None:
        found = identify(file)
        crop, notes = crop_in(config, getattr(found.model, "backbone", None))
        return dataclasses.replace(found, resize=crop, notes=(*found.notes, *notes))
    tensors = _read_weights(path)
    model, family, form = model_in(config, masks=any(name.startswith("mask_head.") for name in tensors))
    resize, notes = resize_of(_read_json(path / PROCESSOR)) if (path / PROCESSOR).is_file() else (Resize(), ())
    tensors, more = (tensors, ()) if getattr(model, "makes_masks", False) else detector_tensors(tensors)
    tensors = tensors if form.filled is None else form.filled(model, config, tensors)
    table = form.table_for(model, backbone_of(tensors))
    return ModelFile(
        model=model,
        variables=from_published(tensors, table=table, like=shapes_of(model)),
        classes=classes_in(config),
        resize=resize,
        postprocess=family.postprocess(),
        notes=(*notes, *more),
    )


def timm_file(path: Path) -> TensorFile | None:
    """The tensors of a folder that timm has written, which may be of a backbone only; None of another folder."""
    config = _read_json(path / CONFIG)
    return TensorFile(_read_weights(path), {}, config["architecture"]) if is_timm(config) else None


def write_folder(path: Path, file: ModelFile) -> None:
    """Writes a model as a folder that the transformers library loads; there must be nothing at the path.

    What leads the library to other numbers is padding: it leaks there as in the published code.

    Raises:
        DataError: the library has no such model, or there is something at the path already.
    """
    model, form = file.model, form_of(family_of(file.model))
    if form is None or not isinstance(file.resize, Resize):
        forms = sorted(every_form(), key=lambda one: one[1].purpose)
        known = " and ".join(family.model.__name__ for family, _ in forms)
        raise DataError(f"only {known} can be written for transformers; got {type(model).__name__}.")
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise DataError(f"{path} is there already; name a folder that is not.")
    config, whose = config_of(model, form, file.classes)
    tensors = to_published(file.variables, table=form.table_for(model, whose))
    tensors = tensors if form.copies is None else {**tensors, **form.copies(model, tensors)}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as scratch:
            beside = Path(scratch, "folder")
            beside.mkdir()
            write_tensors(beside / WEIGHTS[0], tensors)
            _write_json(beside / CONFIG, config)
            _write_json(beside / PROCESSOR, processor_of(file.resize, form.kind))
            beside.replace(path)
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error}") from error


def _weights(folder: Path) -> Path | None:
    """The file of the weights, or that which lists its parts; None if there is neither."""
    names = (name for weights in WEIGHTS for name in (weights, f"{weights}.index.json"))
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _read_weights(folder: Path) -> Arrays:
    """All tensors, in single precision."""
    file = _weights(folder)
    if file is None:
        raise DataError(f"{folder} has none of {' and '.join(WEIGHTS)}.")
    parts = [file]
    if file.suffix == ".json":
        listed = _read_json(file).get("weight_map")
        names = sorted({str(name) for name in listed.values()}) if isinstance(listed, dict) else []
        # A list of parts is somebody else's; it must not lead out of the folder.
        if not names or any(Path(name).name != name for name in names):
            raise DataError(f"{file} should have a weight_map to files beside it; it has {names[:3]}.")
        parts = [folder / name for name in names]
    tensors: Arrays = {}
    for part in parts:
        tensors |= read_tensors(part).tensors
    return {name: x if x.dtype.kind in "iub" else x.astype(np.float32) for name, x in tensors.items()}


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} cannot be read as JSON: {error}.") from error
    if not isinstance(content, dict):
        raise DataError(f"{path} should hold settings by name; it holds a {type(content).__name__}.")
    return content


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
