"""Weights that a new run starts from: another run, published ones, or a folder in Hugging Face's layout."""

from pathlib import Path
from typing import Any, NamedTuple

import jax

from vitjax.checkpoints.paths import flatten, unflatten
from vitjax.checkpoints.store import Store
from vitjax.data.errors import DataError
from vitjax.data.label_names import classes_of
from vitjax.data.source import Classes
from vitjax.formats import huggingface
from vitjax.formats.published import from_published, renamed_norms
from vitjax.formats.recognize import without_mask_head
from vitjax.formats.tensor_files import read_tensors
from vitjax.runs.adapt import adapt
from vitjax.runs.run_folder import is_run, read_run, run_and_step
from vitjax.segmentation.detr_masks import detector_inside


class Weights(NamedTuple):
    """Variables as NumPy arrays, which may be of a part of a model, and what their class head tells apart.

    The classes are None where there is no head, or nothing is known of what it means.
    """

    variables: dict[str, Any]
    classes: Classes | None


def read_weights(source: str | Path) -> Weights:
    """What a run's best checkpoint holds, or a file with published names, or a folder or repository of Hugging Face.

    Of a folder `run/checkpoints/step` it is what that checkpoint holds.

    Of a model with masks it is what the detector inside holds.

    Raises:
        DataError: there is nothing of the kind.
        PublishedError: the names are not those of a known family.
    """
    path = Path(source)
    if path.is_file():
        return _read_published(path)
    if huggingface.is_folder(path):
        file = huggingface.read_folder(path)
        return Weights(file.variables, file.classes)
    if path.is_dir():
        run, step = run_and_step(path)
        if not is_run(run):
            return Weights(_read_checkpoint(run, step), None)
        experiment, classes = read_run(run)
        variables = _read_checkpoint(run, step, metric=experiment.score)
        return Weights(detector_inside(experiment.model, variables)[1], classes)
    if huggingface.is_repository(str(source)):
        return read_weights(huggingface.fetch(str(source)))
    raise DataError(f"there is no {source}; give a run folder, or published weights as .pth, .safetensors or .npz.")


def _read_checkpoint(run: Path, step: int | None = None, metric: str = "AP") -> dict[str, Any]:
    checkpoints = run / "checkpoints"
    if not checkpoints.is_dir():
        raise DataError(f"{run} holds no checkpoints; give a run folder, or a file of published weights.")
    with Store(checkpoints, metric=metric) as store:
        if step is not None:
            return variables_of_checkpoint(store, step)
        if not store.steps():
            raise DataError(f"{run} holds no checkpoint yet.")
        return store.read_best(lambda best: variables_of_checkpoint(store, best))[1]


def _read_published(path: Path) -> Weights:
    tensors, _ = without_mask_head(read_tensors(path).tensors)
    variables = unflatten(_placed(flatten(from_published(tensors))))
    heads = {path: len(leaf) for path, leaf in flatten(variables.get("params", {})).items() if path.endswith("/bias")}
    if "head/bias" in heads:
        return Weights(variables, classes_of(heads["head/bias"], detection=False))
    outputs = next((count for path, count in heads.items() if path.startswith("class_head")), None)
    if outputs is None:
        return Weights(variables, None)
    no_object = "transformer.encoder.layers.0.self_attn.in_proj_weight" in tensors  # DETR's head has one more for it
    return Weights(variables, classes_of(outputs - no_object, detection=True))


def variables_of_checkpoint(store: Store, step: int) -> dict[str, Any]:
    """What `model.apply` takes, from a training checkpoint: the averaged weights where it has them, else the last."""
    weights = "average" if store.holds(step, "average") else "trainable"
    trained, frozen, constants = (store.restore_subtree(step, key) for key in (weights, "frozen", "constants"))
    return {"params": unflatten(flatten(trained) | flatten(frozen)), **constants}


def _placed(given: dict[str, Any]) -> dict[str, Any]:
    """A ResNet file's variables as those of a model around the backbone, the head apart; all others as they are."""
    if "params/stem_conv/kernel" not in given:
        return given
    head = "params/head/"
    return {n if n.startswith(head) else n.replace("/", "/backbone/", 1): array for n, array in given.items()}


def initialize_from(
    source: str | Path, variables: dict[str, Any], *, classes: Classes | None = None
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """`variables` with everything replaced that `source` holds and that fits, and a table of what did and what did not.

    Heads and queries are made to fit as `adapt` does it; with `classes`, those of the new model, class heads are taken
    by the names of the classes. Batch norms that are frozen on one side and learn on the other are taken over too.

    Raises:
        DataError: nothing fits, or classes are to be matched and those of the weights are not known.
    """
    weights = read_weights(source)
    if classes is not None and not (weights.classes and any(weights.classes.names)):
        raise DataError(f"{source} does not tell what its classes are called, so they cannot be matched by name.")
    given, wanted = flatten(weights.variables), flatten(variables)
    names = renamed_norms(given, wanted)
    given = {names.get(name, name): array for name, array in given.items()}
    adapted = adapt(given, wanted, old=weights.classes, new=classes)
    taken = sum(not fate.startswith("new") for fate in adapted.fates.values())
    if not taken:
        raise DataError(f"{source} holds none of this model's parameters; is it of another architecture?")
    notes = [f"{taken} of {len(wanted)} arrays are taken from {source}"]
    if names:
        old, new = next(iter(names.items()))
        notes.append(
            f"{len(names) // 4} batch norms change between frozen and learning: {old} is {new} here, and so on"
        )
    merged = {name: jax.numpy.asarray(array) for name, array in adapted.arrays.items()}
    return unflatten(merged), (*notes, *adapted.table(wanted))
