"""The type that a model computes in."""

import dataclasses
from typing import Any

import flax.linen as nn

from vitjax.errors import FieldError

DTYPES = ("float32", "bfloat16")


def computing_in(model: nn.Module, dtype: str) -> nn.Module:
    """The model with every `dtype` in it, also those of its parts, set to "float32" or "bfloat16".

    Parameters stay float32, and so does what the models always compute in it.

    Raises:
        FieldError: it is another type, or nothing in the model has a dtype.
    """
    if dtype not in DTYPES:
        raise FieldError(
            f"dtype is {' or '.join(DTYPES)}; got {dtype!r}. Training in float16 would need its loss scaled."
        )
    changed = _with_dtype(model, dtype)
    if changed is None:
        raise FieldError(f"a {type(model).__name__} computes in float32, for it has no dtype; got {dtype}.")
    return changed


def _with_dtype(module: nn.Module, dtype: str) -> nn.Module | None:
    """The module with the type; None where nothing in it has one."""
    new: dict[str, Any] = {}
    for name in (field.name for field in dataclasses.fields(module) if field.init and field.name != "parent"):
        value = getattr(module, name)
        if name == "dtype":
            new[name] = dtype
        elif isinstance(value, nn.Module) and (inside := _with_dtype(value, dtype)) is not None:
            new[name] = inside
    return module.clone(**new) if new else None
