"""Reading a model from whatever people have, and writing it as the official code reads it."""

from pathlib import Path
from typing import Any

from vitjax.checkpoints.store import Store
from vitjax.classification.classifier import Classifier
from vitjax.classification.postprocess import TopClasses
from vitjax.data.crops import CenterCrop
from vitjax.data.errors import DataError
from vitjax.data.label_names import classes_of
from vitjax.data.transforms import Resize
from vitjax.detection.detr import DETR
from vitjax.detection.postprocess import BestClass, TopDetections
from vitjax.formats import huggingface
from vitjax.formats.model_file import ModelFile
from vitjax.formats.published import from_published, to_published, with_copies
from vitjax.formats.recognize import recognize, shapes_of, table_for
from vitjax.formats.tables import RESNET_CLASSIFIER, PublishedError
from vitjax.formats.tensor_files import read_tensors, write_tensors
from vitjax.runs.initial import variables_of_checkpoint
from vitjax.runs.run_folder import checkpoints_of, is_run, read_run
from vitjax.segmentation.detr_masks import MaskDETR


def read_model(name: str | Path, *, step: int | None = None) -> ModelFile:
    """The model of a run folder, an official file, or a folder or repository in Hugging Face's layout.

    Of a run the best checkpoint is taken, or that of `step`. Files are .pth, .safetensors or .npz with the names of the
    official DETR, Deformable DETR or CrossFormer, or of torchvision's or timm's ResNet with its classifier.

    Raises:
        DataError: there is nothing of the kind, or it cannot be read.
        PublishedError: the tensors are not those of a model that is known; all that do not fit are listed.
    """
    path = Path(name)
    if is_run(path):
        return _read_run(path, step)
    if step is not None:
        raise DataError(f"{name} is not a run folder, so it has no checkpoint of step {step}.")
    if path.is_file():
        return _read_official(path)
    if huggingface.is_folder(path):
        return huggingface.read_folder(path)
    if path.is_dir():
        raise DataError(
            f"{path} is neither a run folder nor one with config.json and weights in Hugging Face's layout."
        )
    if huggingface.is_repository(str(name)):
        return huggingface.read_folder(huggingface.fetch(str(name)))
    raise DataError(
        f"there is no {name}; give a run folder, a .pth, .safetensors or .npz file, or a repository's name."
    )


def write_official(file: ModelFile, path: Path) -> None:
    """Writes the weights with official names as .pth or .safetensors, shared heads under all their names.

    Raises:
        PublishedError: the official code has no such model.
        DataError: the file cannot be written; one that was there stays.
    """
    if not file.table.rules:
        raise PublishedError(f"there is no official layout for a {type(file.model).__name__}.")
    tensors = with_copies(to_published(file.variables, table=file.table), file.table)
    # The official code of all but torchvision looks for the tensors under this key.
    under = None if file.table is RESNET_CLASSIFIER else "model"
    write_tensors(path, dict(sorted(tensors.items())), under=under)


def _read_run(run: Path, step: int | None) -> ModelFile:
    experiment, classes = read_run(run)
    with Store(checkpoints_of(run), metric=experiment.score) as store:
        if not store.steps() or step not in (None, *store.steps()):
            there = ", ".join(map(str, store.steps())) or "none"
            raise DataError(f"{run} has no checkpoint{'' if step is None else f' of step {step}'}; there are: {there}.")
        if step is not None:
            chosen, variables = step, variables_of_checkpoint(store, step)
        else:
            chosen, variables = store.read_best(lambda best: variables_of_checkpoint(store, best))
    return ModelFile(
        model=experiment.model,
        variables=variables,
        classes=classes,
        table=table_for(experiment.model),
        resize=experiment.resize,
        postprocess=experiment.postprocess,
        step=chosen,
    )


def _read_official(path: Path) -> ModelFile:
    content = read_tensors(path)
    found = recognize(content.tensors, content.settings, hint=path.name)
    variables = from_published(content.tensors, like=shapes_of(found.model), table=found.table)
    model: Any = found.model
    detection = not isinstance(model, Classifier)
    best = BestClass() if isinstance(model, DETR | MaskDETR) else TopDetections()
    return ModelFile(
        model=model,
        variables=variables,
        classes=classes_of(model.num_classes, detection=detection),
        table=found.table,
        resize=Resize() if detection else CenterCrop(),
        postprocess=best if detection else TopClasses(),
        notes=found.notes,
    )
