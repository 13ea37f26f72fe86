"""Files of tensors with vitjax's own names, for models that no published code has.

A tensor is called as its parameter is, params/backbone/stem_conv/kernel; what the model is stands beside them as JSON,
the bytes of one more tensor. So torch and safetensors open such a file, and no code is run to read it.
"""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vitjax.checkpoints.paths import flatten, unflatten
from vitjax.data.errors import DataError
from vitjax.data.source import Classes
from vitjax.families.model_file import ModelFile, shapes_of
from vitjax.formats.tables import PublishedError, TensorFile
from vitjax.formats.tensor_files import write_tensors
from vitjax.runs.experiment import Experiment
from vitjax.runs.run_folder import Stored, classes_in, experiment_in
from vitjax.runs.serialize import to_json

_ABOUT = "vitjax.json"


def write_own(path: Path, variables: Mapping[str, Any], experiment: Experiment, classes: Classes) -> None:
    """Writes a .pth or .safetensors file with all that is needed to use the model.

    Raises:
        DataError: the file cannot be written; one that was there stays.
    """
    about = json.dumps(dataclasses.asdict(Stored(to_json(experiment), classes)))
    tensors = {name: np.asarray(array) for name, array in flatten(variables).items()}
    write_tensors(path, {**tensors, _ABOUT: np.frombuffer(about.encode(), np.uint8)})


def own_model(file: TensorFile) -> ModelFile | None:
    """The model in a file of our own names; None of any other file.

    Raises:
        DataError: what the file says of the model cannot be read.
        UnknownClass: the model has a class of a config that has not been loaded.
        PublishedError: the tensors are not the model's.
    """
    if _ABOUT not in file.tensors:
        return None
    try:
        content = json.loads(file.tensors[_ABOUT].astype(np.uint8).tobytes())
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file.name} cannot be read: its tensor {_ABOUT} is no JSON ({error}).") from error
    if not isinstance(content, dict) or not isinstance(content.get("experiment"), dict):
        raise DataError(f"{file.name} cannot be read: its tensor {_ABOUT} has no 'experiment' with fields.")
    place = Path(file.name)
    experiment, classes = experiment_in(content, place), classes_in(content, place)
    arrays = {name: array for name, array in file.tensors.items() if name != _ABOUT}
    _require_fitting(file.name, arrays, flatten(shapes_of(experiment.model)))
    parts = (experiment.model, unflatten(arrays), classes, experiment.resize, experiment.postprocess)
    return ModelFile(*parts, notes=file.notes, matmul_precision=experiment.matmul_precision)


def _require_fitting(name: str, arrays: Mapping[str, np.ndarray], wanted: Mapping[str, Any]) -> None:
    given, own = ({path: tuple(leaf.shape) for path, leaf in leaves.items()} for leaves in (arrays, wanted))
    strange = [path for path in {**given, **own} if given.get(path) != own.get(path)]
    if strange:
        raise PublishedError(f"{name} does not fit its own model in {len(strange)} tensors: {', '.join(strange[:3])}.")
