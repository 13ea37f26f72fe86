"""One style for what is true or false on a command line: --name and --no-name; --name True is read, too."""

import dataclasses
import typing
from collections.abc import Sequence
from typing import Any

_VALUES = {"true": True, "false": False}


def flags(words: Sequence[str], owner: Any) -> list[str]:
    """The words with `--part.name False` as `--part.no-name`, and without True, where the owner's field is a bool."""
    left: list[str] = []
    for word in words:
        value = _VALUES.get(word.lower())
        if value is None or not left or not _is_boolean(left[-1], owner):
            left.append(word)
        elif not value:
            left.append(negated(left.pop()))
    return left


def negated(flag: str) -> str:
    """The flag that says no."""
    part, dot, name = flag.removeprefix("--").rpartition(".")
    return f"--{part}{dot}no-{name}"


def _is_boolean(flag: str, owner: Any) -> bool:
    """Whether the field that a flag names, in the owner or in one of its parts, is true or false."""
    if not flag.startswith("--"):
        return False
    *parts, name = flag[2:].replace("-", "_").split(".")
    for part in parts:
        owner = getattr(owner, part, None)
    if not dataclasses.is_dataclass(owner):
        return False
    kind: Any = owner if isinstance(owner, type) else type(owner)
    return typing.get_type_hints(kind).get(name) is bool
