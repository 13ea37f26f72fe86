"""An Experiment as JSON and back: what a run folder keeps, so that a checkpoint can be used without its config file."""

import dataclasses
import importlib
import sys
import types
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import flax.linen as nn

import vitjax
from vitjax.errors import VitjaxError
from vitjax.runs.moved import renamed

CONFIG = "vitjax_config_"
"""What the name of a config file's module begins with; the name of the file follows."""

_TYPE = "class"
_INTERNAL = ("parent", "name")  # fields that Linen adds to every module
_ROOMS = ("runs", "tasks")  # besides those whose names are public: a config is made of these
_MOST = 2**63  # from here on NumPy has no whole numbers


class NoExperiment(VitjaxError):
    """What is read is no experiment; the message names the field."""


class UnknownClass(NoExperiment):
    """A class that is not vitjax's, of no config that has been loaded."""


def to_json(value: Any) -> Any:
    """Dataclasses and Linen modules as {"class": "package.module.Name", field: value, ...}; plain values as they are.

    A dict stays one, whatever its keys: the types of the fields tell the two apart.

    Raises:
        TypeError: a field holds something that is neither.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        kind = type(value)
        fields = {name: to_json(getattr(value, name)) for name in _fields(kind)}
        return {_TYPE: f"{kind.__module__}.{kind.__qualname__}", **fields}
    if isinstance(value, dict):
        return {str(key): to_json(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json(entry) for entry in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"an experiment's fields are numbers, strings, tuples and dataclasses; got {value!r}.")


def from_json(value: Any, kind: Any, name: str = "experiment") -> Any:
    """The value of the type `kind` that `to_json` was given; messages begin with `name`.

    Only dataclasses and Linen modules are made, where the type of a field allows them, and only those that a room of
    vitjax defines, or a config that has been loaded in this process: to load it is its user's word for it.

    Raises:
        UnknownClass: a class is neither.
        NoExperiment: a value is not of its field's type, or a class does not have the fields that are given.
    """
    kind = _guessed(value) if kind is Any else kind
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return _one_of(value, inner, name)
    if origin is typing.Literal:
        return value if isinstance(value, str) and value in inner else _refuse(value, kind, name)
    if origin is tuple:
        return _tuple(value, kind, name)
    if origin is dict:
        entries = value if isinstance(value, dict) else _refuse(value, kind, name)
        return {key: from_json(entry, inner[1], f"{name}.{key}") for key, entry in entries.items()}
    if kind in _PLAIN:
        return value if _PLAIN[kind][1](value) else _refuse(value, kind, name)
    return _made(value, (kind,), name)


def _fits(value: Any, *kinds: type) -> bool:
    """Whether it is one of the kinds; true is no number, and what NumPy cannot hold is none either."""
    if isinstance(value, bool):
        return bool in kinds
    return isinstance(value, kinds) and not (isinstance(value, int) and abs(value) >= _MOST)


_PLAIN: dict[Any, tuple[str, Callable[[Any], bool]]] = {
    bool: ("true or false", lambda value: _fits(value, bool)),
    int: ("a whole number", lambda value: _fits(value, int)),
    float: ("a number", lambda value: _fits(value, int, float)),
    str: ("text", lambda value: _fits(value, str)),
    type(None): ("null", lambda value: value is None),
}


def _said(kind: Any) -> str:
    """A type in words."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Literal:
        return " or ".join(map(repr, inner))
    words = {tuple: "a list", dict: "an object of names and values"}
    name = getattr(kind, "__name__", str(kind))
    return _PLAIN[kind][0] if kind in _PLAIN else words.get(origin) or f"{'an' if name[0] in 'AEIO' else 'a'} {name}"


def _refuse(value: Any, kinds: Any, name: str) -> NoReturn:
    wish = " or ".join(map(_said, kinds if isinstance(kinds, tuple) else (kinds,)))
    text = repr(value)
    raise NoExperiment(f"{name} must be {wish}; got {text if len(text) < 80 else f'{text[:80]}...'}.")


def _guessed(value: Any) -> Any:
    """The type of a value for which a user's class names none."""
    if isinstance(value, dict):
        return object if isinstance(value.get(_TYPE), str) else dict[str, Any]
    return tuple[Any, ...] if isinstance(value, list) else type(value)


def _one_of(value: Any, kinds: tuple[Any, ...], name: str) -> Any:
    """The value as the first of the types that takes it; an object as the class that it names."""
    if isinstance(value, dict) and isinstance(value.get(_TYPE), str):
        return _made(value, tuple(kind for kind in kinds if isinstance(kind, type) and kind not in _PLAIN), name)
    for kind in kinds:
        try:
            return from_json(value, kind, name)
        except NoExperiment:
            continue
    return _refuse(value, kinds, name)


def _tuple(value: Any, kind: Any, name: str) -> tuple[Any, ...]:
    inner = typing.get_args(kind)
    if not isinstance(value, list):
        _refuse(value, kind, name)
    if inner[-1] is Ellipsis:
        inner = (inner[0],) * len(value)
    if len(inner) != len(value):
        raise NoExperiment(f"{name} must be a list of {len(inner)}; got {len(value)}: {str(value)[:80]}.")
    return tuple(from_json(entry, inner[place], f"{name}.{place}") for place, entry in enumerate(value))


def _made(value: Any, kinds: tuple[type, ...], name: str) -> Any:
    """What a class makes of the fields of an object."""
    if not isinstance(value, dict) or not isinstance(value.get(_TYPE), str):
        _refuse(value, kinds, name)
    path, given = renamed(value[_TYPE], {key: entry for key, entry in value.items() if key != _TYPE})
    kind = _class(path, name)
    if _is_ours(path) and not issubclass(kind, kinds):  # classes of users stand where they put them
        _refuse(kind.__name__, kinds, name)
    if strange := sorted(given.keys() - _fields(kind)):
        raise NoExperiment(f"{name}: {kind.__name__} has no field {strange[0]!r} in this version of vitjax.")
    hints = typing.get_type_hints(kind) if _is_ours(path) else {}
    entries = {key: from_json(entry, hints.get(key, Any), f"{name}.{key}") for key, entry in given.items()}
    try:
        return kind(**entries)
    except (TypeError, ValueError) as error:
        raise NoExperiment(f"{name}: no {kind.__name__} can be made of this: {error}") from error


def _fields(kind: type) -> list[str]:
    internal = _INTERNAL if issubclass(kind, nn.Module) else ()
    return [field.name for field in dataclasses.fields(kind) if field.init and field.name not in internal]


def _is_ours(path: str) -> bool:
    return path.split(".")[0] == "vitjax"


def _class(path: str, name: str) -> type:
    """The class of a dotted path, which is looked up and never called on the way."""
    module, _, last = path.rpartition(".")
    found = _own(module, last) if _is_ours(path) else _of_user(module, last)
    if isinstance(found, type) and dataclasses.is_dataclass(found):
        return found
    if _is_ours(path):
        raise NoExperiment(f"{name}: {path!r} is no part of an experiment in this version of vitjax.")
    raise UnknownClass(
        f"{name}: {path!r} is not vitjax's, and code of others runs only on its user's word: name the config that has "
        "the class, as --config FILE, or config=FILE in Python."
    )


def _own(module: str, name: str) -> Any:
    rooms = module.split(".")[1:]
    if len(rooms) != 2 or not _holds_parts(rooms[0]):
        return None
    try:
        found = vars(importlib.import_module(module)).get(name)
    except ImportError:
        return None
    return found if getattr(found, "__module__", None) == module else None


def _holds_parts(room: str) -> bool:
    """Whether parts of experiments are defined in a room of vitjax."""
    public = Path(vitjax.__file__).parent / room / "__init__.pyi"
    return room.isidentifier() and (room in _ROOMS or public.is_file())


def _of_user(module: str, name: str) -> Any:
    """The class in a config that is loaded or in the running script, or in a module from which these have a class."""
    loaded = [each for key, each in sys.modules.items() if key.startswith(CONFIG) or key == "__main__"]
    kinds = [kind for each in loaded for kind in vars(each).values() if isinstance(kind, type)]
    further = {kind.__module__ for kind in kinds if dataclasses.is_dataclass(kind) and not _is_ours(kind.__module__)}
    known = {each.__name__: each for each in loaded} | {key: sys.modules.get(key) for key in further}
    if hasattr(known.get(module), name):
        return getattr(known[module], name)
    # A config may have been renamed, or be the copy in the run folder.
    renamed_config = module.startswith(CONFIG) or module == "__main__"
    return next((vars(each)[name] for each in reversed(loaded) if name in vars(each)), None) if renamed_config else None
