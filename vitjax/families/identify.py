"""Which model a published file holds, from the names and shapes of its tensors.

What leaves no trace there is taken from the settings that some files hold beside the tensors: the dilation of DC5, the
number of attention heads; or from the name of the file.
"""

from typing import NamedTuple

from vitjax.families.family import Family, Notes, Official, Tensors
from vitjax.families.known import every_family
from vitjax.families.model_file import ModelFile, shapes_of
from vitjax.formats.tables import Arrays, Table, TensorFile, from_published, table_of


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


def identify(file: TensorFile) -> ModelFile:
    """The model that has the tensors of a published file, with these for its weights.

    Raises:
        PublishedError: the names are of no known family, or the sizes of no known member of it.
    """
    family, official, table = told_by(file.tensors)
    model, notes = official.identify(file, table)
    return ModelFile(
        model=model,
        variables=from_published(file.tensors, table=table, like=shapes_of(model)),
        classes=family.classes(model.num_classes),
        resize=family.resize(),
        postprocess=family.postprocess(),
        notes=notes,
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
