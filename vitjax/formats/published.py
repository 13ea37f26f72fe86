"""Published weights into our variables and back, by tables of their names.

Whatever no rule covers, on either side, is an error that lists all of it: nothing is dropped that a table does not name
as `disposable`.
"""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from flax import traverse_util

from vitjax.formats.tables import PublishedError, Table

Variables = Mapping[str, Any]
Arrays = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class TensorFile:
    """The tensors of a file by name, the settings that it says they were made with, and what the file is called."""

    tensors: dict[str, np.ndarray]
    settings: dict[str, Any]
    name: str = ""


def table_of(state: Mapping[str, np.ndarray], tables: Sequence[Table]) -> Table:
    """The table that knows the most of these published names; of equals the first.

    Two tables can know the same names; then counts whether what one holds for copies of one tensor is mostly equal.

    Raises:
        PublishedError: no table knows any of the names.
    """
    known = {table.name: sum(table.of_published(name) is not None for name in state) for table in tables}
    if not any(known.values()):
        families = ", ".join(known)
        raise PublishedError(f"no known family ({families}) has any of the {len(state)} tensor names: {[*state][:5]}")
    return max(tables, key=lambda table: (known[table.name], _copies_agree(table, state)))


def _copies_agree(table: Table, state: Mapping[str, np.ndarray]) -> bool:
    """Whether most of the tensors that the table holds for copies of another one are equal to it."""
    primary = {name: table.primary(name) for name in state}
    first = {name: other for other, name in reversed(primary.items())}
    copies = [(name, first[primary[name]]) for name in state if first[primary[name]] != name]
    return 2 * sum(np.array_equal(state[name], state[other]) for name, other in copies) >= len(copies)


def renamed_norms(given: Collection[str], wanted: Collection[str]) -> dict[str, str]:
    """New names for the paths in `given` of batch norms that are frozen there and learn in `wanted`, or the reverse.

    A frozen batch norm has its four arrays in `frozen`, one that learns has them in `params` and `batch_stats`.
    """
    thawed = _batch_norms(given, "frozen") & _batch_norms(wanted, "batch_stats")
    stilled = _batch_norms(given, "batch_stats") & _batch_norms(wanted, "frozen")
    names = {frozen: learning for layer in sorted(thawed) for frozen, learning in _both_forms(layer)}
    return names | {learning: frozen for layer in sorted(stilled) for frozen, learning in _both_forms(layer)}


def _batch_norms(paths: Collection[str], collection: str) -> set[str]:
    """The layers whose running mean is in the collection."""
    root, leaf = f"{collection}/", "/mean"
    return {path[len(root) : -len(leaf)] for path in paths if path.startswith(root) and path.endswith(leaf)}


def _both_forms(layer: str) -> list[tuple[str, str]]:
    """The paths of a batch norm's arrays, each where it is frozen and where it learns."""
    learning = {"scale": "params", "bias": "params", "mean": "batch_stats", "var": "batch_stats"}
    return [(f"frozen/{layer}/{name}", f"{collection}/{layer}/{name}") for name, collection in learning.items()]


def from_published(state: Mapping[str, np.ndarray], *, table: Table, like: Variables | None = None) -> dict[str, Any]:
    """Variables `{"params": ..., "frozen": ...}` from published tensors, whose names are those of a table.

    With `like`, the variables of the model or their shapes (`jax.eval_shape` of its `init`), every parameter of the
    model must be filled and every shape must agree; batch norms are then frozen or learn as the model's do. Several
    published tensors that share one place must be equal.

    Raises:
        PublishedError: something is left over on either side, or does not fit; all of it is listed.
    """
    flat: Arrays = {}
    problems: dict[str, list[str]] = {"published tensors without a place here": [], "tensors that do not fit": []}
    leftover, misfits = problems.values()
    for name, tensor in state.items():
        found = table.of_published(name)
        if found is None:
            leftover.extend([] if table.drops(name) else [f"{name} {np.shape(tensor)}"])
            continue
        try:
            parts = found[0].split(np.asarray(tensor))
        except PublishedError as error:
            misfits.append(f"{name}: {error}")
            continue
        for template, part in zip(found[0].paths, parts, strict=True):
            path = template.format(**found[1])
            if path in flat and not np.array_equal(flat[path], part):
                misfits.append(f"{name} differs from another tensor that fills {path} too")
            flat[path] = part
    if like is not None:
        model = traverse_util.flatten_dict(like, sep="/")
        flat = _renamed(flat, renamed_norms(flat, model))
        problems |= _against_model(flat, model)
    _raise_if_any(problems, table)
    return traverse_util.unflatten_dict(flat, sep="/")


def to_published(variables: Variables, *, table: Table) -> Arrays:
    """Published tensors from variables, which may be a part of the model's (the gradients of what trains, say).

    Batch norms that learn are written as frozen ones are: the files know no difference.

    Raises:
        PublishedError: a path has no published name, or a part of a fused tensor is missing; all of them are listed.
    """
    flat = {path: np.asarray(value) for path, value in traverse_util.flatten_dict(variables, sep="/").items()}
    flat = _renamed(flat, renamed_norms(flat, [path.replace("batch_stats/", "frozen/", 1) for path in flat]))
    found = {path: table.of_path(path) for path in flat}
    leftover = [f"{path} {flat[path].shape}" for path in flat if found[path] is None]
    pieces = {
        rule.published.format(**fields): (rule, [path.format(**fields) for path in rule.paths])
        for rule, fields in filter(None, found.values())
    }
    missing = [f"{path} (part of {name})" for name, (_, paths) in pieces.items() for path in paths if path not in flat]
    _raise_if_any({"parameters without a published name": leftover, "missing parts": missing}, table)
    return {name: rule.join([flat[path] for path in paths]) for name, (rule, paths) in pieces.items()}


def _renamed(flat: Arrays, names: Mapping[str, str]) -> Arrays:
    return {names.get(path, path): value for path, value in flat.items()}


def _against_model(flat: Arrays, model: Mapping[str, Any]) -> dict[str, list[str]]:
    """What keeps converted arrays from being the variables of a model."""
    unfilled = [f"{path} {value.shape}" for path, value in model.items() if path not in flat]
    unknown = [f"{path} {value.shape}" for path, value in flat.items() if path not in model]
    unequal = [
        f"{path} is {value.shape}, the model has {model[path].shape}"
        for path, value in flat.items()
        if path in model and value.shape != model[path].shape
    ]
    return {
        "parameters of the model that nothing fills": unfilled,
        "parameters that the model does not have": unknown,
        "shapes that differ": unequal,
    }


def _raise_if_any(problems: dict[str, list[str]], table: Table) -> None:
    """One error for all problems."""
    lines = [f"{title} ({len(items)}): {', '.join(items)}" for title, items in problems.items() if items]
    if lines:
        raise PublishedError(f"weights do not fit (table {table.name}):\n  " + "\n  ".join(lines))
