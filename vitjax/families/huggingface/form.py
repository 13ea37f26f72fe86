"""What is said of a family in the transformers library, in one place: its settings and the names of its tensors."""

import dataclasses
import importlib
from collections.abc import Callable, Mapping
from typing import Any, Literal

import flax.linen as nn

from vitjax.data.errors import DataError
from vitjax.families.family import Family
from vitjax.families.known import every_family
from vitjax.formats.tables import Arrays, Table

Settings = Mapping[str, Any]
Backbone = Literal["transformers", "timm"]
"""Whose ResNet it is: the library's own, or timm's."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Form:
    """A family as the library has it; what config.json and names have in common is known to `config` and `names`."""

    model_type: str
    """What config.json calls it."""
    kind: str
    """How the names of its classes in the library begin."""
    purpose: str = "ForObjectDetection"
    """How the name of the class of such models ends."""
    inside: Callable[[Any], Any] = lambda model: model
    """The detector of a model, which has the fields that config.json tells of."""
    feed_forward: int
    """Hidden width of the feed-forward networks where config.json gives none."""
    fields: Mapping[str, tuple[str, Any]]
    """Options of config.json, each with the field of the model that it is, and its default."""
    model_of: Callable[[Settings, dict[str, Any], int], nn.Module]
    """The model, from config.json, the values of these and the shared fields, and how many maps the backbone gives."""
    settings_of: Callable[[Any], dict[str, Any]]
    """What config.json says of a model besides all that."""
    maps: Callable[[Any], tuple[int, int]]
    """How many of its backbone's maps a model takes, and how many the library takes of one that is dilated."""
    table_for: Callable[[Any, Backbone], Table]
    """The names of a model's tensors."""
    filled: Callable[[Any, Settings, Arrays], Arrays] | None = None
    """The tensors of a file with those that it leaves out as copies of others; None where there are none."""
    copies: Callable[[Any, Arrays], Arrays] | None = None
    """Those of a model's tensors that files hold under other names too; None where there are none."""


def form_of(family: Family | None) -> Form | None:
    """The family's form in the library; None where it has none."""
    if family is None or family.huggingface is None:
        return None
    return importlib.import_module(f"vitjax.families.{family.huggingface}").FORM


def every_form() -> list[tuple[Family, Form]]:
    """The families that the library has, with their forms."""
    forms = [(family, form_of(family)) for family in every_family()]
    return [(family, form) for family, form in forms if form is not None]


def require(config: Settings, *, where: str = "config.json", **options: Any) -> None:
    """Nothing, if options that are given have the only value that there is here.

    Raises:
        DataError: one has another; it is named.
    """
    for name, only in options.items():
        if (value := config.get(name)) not in (None, only):
            raise DataError(f"{where} has {name}={value!r}; here there is only {only!r}.")
