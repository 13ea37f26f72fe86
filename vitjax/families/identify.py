"""Which model a published file holds, from the names and shapes of its tensors.

What leaves no trace there is taken from the settings that some files hold beside the tensors: the dilation of DC5, the
number of attention heads; or from the name of the file.
"""

import dataclasses
from collections.abc import Iterable
from typing import NamedTuple

from vitjax.families.family import Family, Notes, Official, Tensors
from vitjax.families.known import every_family
from vitjax.families.model_file import ModelFile, shapes_of
from vitjax.families.near import near_family
from vitjax.families.wrapped import unwrapped
from vitjax.formats.tables import Arrays, PublishedError, Table, TensorFile, from_published, table_of


class Told(NamedTuple):
    """A family, what is said of its official files, and the table of the names in one of them."""

    family: Family
    official: Official
    table: Table


def told_by(tensors: Tensors) -> Told:
    """The family that knows the most of these published names.

    Raises:
        PublishedError: no family knows any of them.
    """
    every = {told.table.name: told for told in _every_table()}
    return every[table_of(tensors, [told.table for told in every.values()]).name]


class Sorted(NamedTuple):
    """The tensors of a model by their published names, whose they are, and lines on what was left of a file."""

    told: Told
    tensors: Arrays
    notes: Notes


def sorted_out(file: TensorFile, *, masks: bool = True) -> Sorted:
    """The model's tensors in a file, of one with masks the detector inside where these are not wanted.

    Raises:
        PublishedError: the names are of no known family; where they are of one that is near, it is told.
    """
    tables = [told.table for told in _every_table()]

    def known(names: Iterable[str]) -> int:
        return max(sum(table.of_published(name) is not None for name in names) for table in tables)

    tensors, notes = unwrapped(file.tensors, known)
    tensors, more = (tensors, ()) if masks else detector_tensors(tensors)
    try:
        told = told_by(tensors)
        strange = [name for name in tensors if not (told.table.of_published(name) or told.table.drops(name))]
    except PublishedError as error:
        near = near_family(tensors, tensors)
        raise PublishedError(f"{file.name or 'these'}: {near or error}") from error
    if near := near_family(tensors, strange):
        raise PublishedError(f"{file.name or 'these'}: {near}")
    return Sorted(told, tensors, (*file.notes, *notes, *more))


def identify(file: TensorFile) -> ModelFile:
    """The model that has the tensors of a published file, with these for its weights.

    Raises:
        PublishedError: the names are of no known family, or the sizes of no known member of it.
    """
    (family, official, table), tensors, left = sorted_out(file)
    model, notes = official.identify(dataclasses.replace(file, tensors=tensors), table)
    return ModelFile(
        model=model,
        variables=from_published(tensors, table=table, like=shapes_of(model)),
        classes=family.classes(model.num_classes),
        resize=family.resize() if family.resize_of is None else family.resize_of(model),
        postprocess=family.postprocess(),
        notes=(*left, *notes),
    )


def detector_tensors(tensors: Tensors) -> tuple[Arrays, Notes]:
    """The tensors of the detector inside a model with masks, and a line that says what is left; all others as they are.

    The names are those of official files, or those of the transformers library.
    """
    inside: Arrays = dict(tensors)
    notes: Notes = ()
    for _, official, _ in _every_table():
        if official.detector is not None:
            inside, more = official.detector(inside)
            notes = (*notes, *more)
    return inside, notes


def _every_table() -> list[Told]:
    published = [(family, family.official) for family in every_family() if family.official is not None]
    return [Told(family, official, table) for family, official in published for table in official.tables]
