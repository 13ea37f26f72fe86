"""An Experiment as JSON and back: what a run folder keeps, so that a checkpoint can be used without its config file."""

import dataclasses
import importlib
from typing import Any

import flax.linen as nn

_TYPE = "class"
_INTERNAL = ("parent", "name")  # fields that Linen adds to every module


def to_json(value: Any) -> Any:
    """Dataclasses and Linen modules as {"class": "package.module.Name", field: value, ...}; plain values as they are.

    Raises:
        TypeError: a field holds something that is neither.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        kind = type(value)
        names = [field.name for field in dataclasses.fields(value) if field.init]
        if isinstance(value, nn.Module):
            names = [name for name in names if name not in _INTERNAL]
        fields = {name: to_json(getattr(value, name)) for name in names}
        return {_TYPE: f"{kind.__module__}.{kind.__qualname__}", **fields}
    if isinstance(value, dict):
        return {str(key): to_json(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json(entry) for entry in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"an experiment's fields are numbers, strings, tuples and dataclasses; got {value!r}.")


def from_json(value: Any) -> Any:
    """The value that `to_json` was given; lists come back as tuples. Only classes of vitjax are made.

    Raises:
        ValueError: a class is not one of vitjax's, or does not have the fields that are given for it.
    """
    if isinstance(value, list):
        return tuple(from_json(entry) for entry in value)
    if not isinstance(value, dict):
        return value
    entries = {key: from_json(entry) for key, entry in value.items() if key != _TYPE}
    if _TYPE not in value:
        return entries
    module, _, name = value[_TYPE].rpartition(".")
    if module.split(".")[0] != "vitjax":
        raise ValueError(f"an experiment is made of vitjax's classes; got {value[_TYPE]!r}.")
    try:
        return getattr(importlib.import_module(module), name)(**entries)
    except (ImportError, AttributeError, TypeError) as error:
        raise ValueError(f"cannot rebuild {value[_TYPE]} as this version of vitjax has it: {error}") from error
