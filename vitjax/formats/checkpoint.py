"""The model's state in what `torch.save` was given: where the tensors lie, which of two sets counts, and settings."""

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vitjax.data.errors import DataError
from vitjax.formats.tables import TensorFile

_STATES = ("model", "state_dict", "model_state_dict", "module", "net", "shadow", "student")
_SETTINGS = ("args", "config", "cfg")
_WRAPPERS = ("module.", "_orig_mod.")  # of data parallel and of torch.compile, which no model calls a part
COUNTERS = ("n_averaged", "num_updates", "steps", "step", "initted", "decay")
"""Numbers of those who average weights, which stand among the tensors."""
_LEVELS = 4  # of mappings, the outermost first, down to the tensors
_MOST_SETTINGS = 100_000  # values; a few bytes of a file can stand for any number of them

Mappings = list[dict[Any, Any]]


def model_of(path: Path, content: Any) -> TensorFile:
    """The model's tensors, without what wrappers put before all names, and the settings beside them or further out.

    Where averaged weights (EMA) lie beside the last ones, they are taken, for they are what is evaluated; what they
    lack is taken from the last ones, and a note says which they are.

    Raises:
        DataError: there are no tensors where they should be, or the settings have no end.
    """
    levels = _levels(content)
    averaged = _averaged(levels or ([content] if isinstance(content, dict) else []))
    if not levels and not averaged:
        raise DataError(f"{path} holds no tensors where they should be, but {_found(content)}.")
    notes: tuple[str, ...] = ()
    state = state_in(levels[-1] if levels else {})
    if averaged and "message_hub" not in content:  # mmengine saves the average as the model's, and the last beside it
        state, notes = _with_average(state, averaged[0], state_in(averaged[1][-1]))
    settings = (level[key] for level in levels or [content] for key in _SETTINGS if isinstance(level.get(key), dict))
    try:
        plain = _plain(next(settings, {}), [_MOST_SETTINGS])
    except RecursionError as error:
        raise DataError(f"{path} has settings that hold themselves or have no end.") from error
    return TensorFile(state, plain, notes=notes)


def is_average(name: str) -> bool:
    """Whether a name says that averaged weights go by it."""
    return bool({"ema", "teacher", "averaged", "swa"} & set(re.split(r"[._]", name.lower())))


def state_in(content: Mapping[Any, Any]) -> dict[str, np.ndarray]:
    """The tensors in a mapping, by their names without what wrappers put before all of them."""
    state = {str(name): array for name, array in content.items() if isinstance(array, np.ndarray)}
    while prefix := next((prefix for prefix in _WRAPPERS if _have_all(state, prefix)), ""):
        state = {name.removeprefix(prefix): array for name, array in state.items() if name.startswith(prefix)}
    return state


def _have_all(state: Mapping[str, np.ndarray], prefix: str) -> bool:
    """Whether all names begin so, besides those of counters."""
    rest = [name for name in state if not name.startswith(prefix)]
    return len(rest) < len(state) and all(name in COUNTERS for name in rest)


def _with_average(
    last: dict[str, np.ndarray], key: str, average: dict[str, np.ndarray]
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """The averaged weights where they are of the same model, with what they lack; and what is said of the choice."""
    average = {name: array for name, array in average.items() if name not in COUNTERS}
    shapes, others = (Counter(array.shape for array in state.values()) for state in (average, last))
    fits = all(name in last and last[name].shape == array.shape for name, array in average.items())
    if last and not fits and shapes != others:
        return last, (f"note: the last weights are taken; what {key!r} has is not the average of these",)
    missing = {name: last[name] for name in last if name not in average} if shapes != others else {}
    more = f"; {len(missing)} arrays that it does not have are the last ones'" if missing else ""
    return {**missing, **average}, (f"note: the averaged weights (EMA) are taken, {key!r}, as in evaluation{more}",)


def _averaged(levels: Mappings) -> tuple[str, Mappings] | None:
    """The key of averaged weights beside the model or further out, and the mappings down to their tensors."""
    for level in levels:
        for key, value in level.items():
            if is_average(str(key)) and (inner := _levels(value)):
                return str(key), inner
    return None


def _levels(content: Any, most: int = _LEVELS) -> Mappings:
    """The mappings from the outermost to that of the tensors; none where there are no tensors."""
    if not isinstance(content, dict) or not most:
        return []
    for key in _STATES:
        if inner := _levels(content.get(key), most - 1):
            return [content, *inner]
    arrays = sum(isinstance(value, np.ndarray) for value in content.values())
    return [content] if arrays and 2 * arrays >= len(content) else []


def _found(content: Any) -> str:
    """What a file without a model's tensors holds, and the wish."""
    if not isinstance(content, dict):
        return f"a {type(content).__name__}; with torch, save the model's state_dict() instead"
    if "param_groups" in content or {*content} - {"epoch", "step", "iteration"} <= {
        "optimizer",
        "lr_scheduler",
        "scaler",
    }:
        return f"the state of an optimizer ({', '.join(map(str, [*content][:5]))}); the model's is in another file"
    wish = f"tensors by name are looked for at the top and under {', '.join(_STATES)}"
    return f"the keys {[*content][:20]}; {wish}"


def _plain(value: Any, left: list[int]) -> Any:
    """The value with plain dictionaries and lists for whatever holds others; `left` counts how many may still come."""
    left[0] -= 1
    if left[0] < 0:
        raise RecursionError("too many settings")
    if isinstance(value, dict):
        return {key: _plain(inner, left) for key, inner in value.items()}
    if isinstance(value, list | tuple | set):
        return type(value)(_plain(inner, left) for inner in value)
    return value
