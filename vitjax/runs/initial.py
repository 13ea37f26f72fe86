"""Weights that a new run starts from: another run, published ones, or a folder in Hugging Face's layout."""

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax

from vitjax.checkpoints.paths import flatten, unflatten
from vitjax.data.errors import DataError
from vitjax.data.source import Classes
from vitjax.families.huggingface.folder import timm_file
from vitjax.families.identify import sorted_out
from vitjax.formats.tables import TensorFile, from_published, renamed_norms
from vitjax.formats.tensor_files import read_tensors
from vitjax.runs.adapt import Adapted, adapt, is_class_bias, not_whole
from vitjax.runs.backbones import require_backbone
from vitjax.runs.own_file import own_model
from vitjax.runs.read_model import find, not_finite, read_checkpoint, read_model
from vitjax.runs.run_folder import is_run


class Weights(NamedTuple):
    """Variables as NumPy arrays, which may be of a part of a model, and what their class head tells apart.

    The classes are None where there is no head, or nothing is known of what it means. `notes` are lines for people on
    what was taken of a file.
    """

    variables: dict[str, Any]
    classes: Classes | None
    notes: tuple[str, ...] = ()


def read_weights(source: str | Path, *, masks: bool = False) -> Weights:
    """What a run's best checkpoint holds, or a file with published names, or a folder or repository of Hugging Face.

    Of a folder `run/checkpoints/step` it is what that checkpoint holds, of a model with masks what the detector inside
    holds, unless `masks` are wanted, too.

    Raises:
        DataError: there is nothing of the kind.
        PublishedError: the names are not those of a known family.
    """
    found = find(source)
    file = timm_file(found.path) if found.kind == "huggingface" else None
    if found.kind == "file":
        file = read_tensors(found.path)
    if file is not None:
        own = own_model(file)
        if own is None:
            return _published(file, masks)
        own = own if masks else own.without_masks()
        return Weights(own.variables, own.classes)
    if found.kind == "run" and not is_run(found.path):
        return Weights(read_checkpoint(found.path, found.step)[0], None)
    model = read_model(found.path, step=found.step)
    model = model if masks else model.without_masks()
    return Weights(model.variables, model.classes)


def _published(file: TensorFile, masks: bool) -> Weights:
    """Files may hold a part of a model only, a backbone say."""
    (family, _, table), tensors, notes = sorted_out(file, masks=masks)
    variables = from_published(tensors, table=table)
    heads = [leaf for path, leaf in flatten(variables).items() if is_class_bias(_outside(path, "detr"))]
    if not heads:
        return Weights(variables, None, notes)
    no_object = getattr(family.postprocess, "scores", None) == "softmax"  # one column more
    return Weights(variables, family.classes(len(heads[0]) - no_object), notes)


def initialize_from(
    source: str | Path,
    variables: dict[str, Any],
    *,
    classes: Classes | None = None,
    frozen: Callable[[str], bool] | None = None,
    some: Callable[[Collection[str]], dict[str, Any]] | None = None,
    inside: str | None = None,
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """`variables` with everything replaced that `source` holds and that fits, and a table of what did and what did not.

    They may be shapes alone: `some`, which gives those of some paths, is asked for what the weights lack. Heads and
    queries are made to fit as `adapt` does it; with `classes`, those of the new model, class heads are taken by the
    names of the classes. Batch norms that are frozen on one side and learn on the other are taken over too. `frozen`
    tells of the path of a parameter whether it keeps its first values, which then must be in the weights. Of a model
    with masks `inside` is its detector: weights may be of either.

    Raises:
        DataError: nothing fits, the backbone is another, a value is not finite, a frozen parameter would stay random,
            or classes are to be matched and those of the weights are not known.
    """
    weights = read_weights(source, masks=inside is not None)
    if classes is not None and not (weights.classes and any(weights.classes.names)):
        raise DataError(f"{source} does not tell what its classes are called, so they cannot be matched by name.")
    every = flatten(variables)
    places = {_outside(path, inside): path for path in every}
    wanted = {path: every[place] for path, place in places.items()}
    given = {_outside(path, inside): leaf for path, leaf in flatten(weights.variables).items()}
    names = renamed_norms(given, wanted)
    given = {names.get(name, name): array for name, array in given.items()}
    if any(name in wanted and wanted[name].shape == array.shape for name, array in given.items()):
        require_backbone(source, given, wanted)
    lacking = {places[path] for path in not_whole(given, wanted, by_name=classes is not None)}
    drawn = flatten(some(lacking)) if some and lacking else {}
    first = wanted | {_outside(path, inside): leaf for path, leaf in drawn.items()}
    adapted = adapt(given, first, old=weights.classes, new=classes)
    _require_taken(source, adapted, places, frozen)
    arrays = {places[path]: jax.numpy.asarray(array) for path, array in adapted.arrays.items()}
    told = f"{len(adapted.taken)} of {len(wanted)} arrays are taken from {source}"
    return unflatten(arrays), (*weights.notes, told, *_on_norms(names), *adapted.table(wanted))


def _on_norms(names: Mapping[str, str]) -> tuple[str, ...]:
    """A line on batch norms that are called otherwise here, where there are such."""
    told = f"{len(names) // 4} batch norms change between frozen and learning"
    return tuple(f"{told}: {old} is {new} here, and so on" for old, new in [*names.items()][:1])


def _outside(path: str, part: str | None) -> str:
    """The path that something in a part of a model has where the part is the model."""
    collection, _, rest = path.partition("/")
    return f"{collection}/{rest.removeprefix(f'{part}/')}" if part else path


def _require_taken(
    source: str | Path, adapted: Adapted, places: Mapping[str, str], frozen: Callable[[str], bool] | None
) -> None:
    """Passes where something is taken, all of it finite, and every frozen parameter among it."""
    if not adapted.taken:
        raise DataError(f"{source} holds none of this model's parameters; is it of another architecture?")
    if said := not_finite({path: adapted.arrays[path] for path in adapted.taken}):
        raise DataError(f"{source} {said}, so nothing can be trained from it; take an earlier checkpoint.")
    new = [places[path] for path in adapted.fates.keys() - set(adapted.taken) if path.startswith("params/")]
    lost = sorted(path for each in new if frozen and frozen(path := each.removeprefix("params/")))
    if lost:
        raise DataError(
            f"{source} has nothing for {len(lost)} parameters that are frozen, so they would stay random: "
            f"{', '.join(lost[:3])}{', ...' if lost[3:] else ''}. Give weights that have them, or train them "
            "(--optimizer.frozen)."
        )
