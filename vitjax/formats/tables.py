"""Tables: which published tensor lives at which of our parameter paths, and weights from one to the other by them.

The families have the tables. A table is a list of rules. A rule pairs a published name with one of our paths, `{layer}`
and the like standing for any whole number, and says how the axes move; a fused tensor is cut along its first axis into
several paths.

Whatever no rule covers, on either side, is an error that lists all of it: nothing is dropped that a table does not name
as `disposable`.
"""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
from flax import traverse_util

from vitjax.errors import VitjaxError

Variables = Mapping[str, Any]
Arrays = dict[str, np.ndarray]

AS_IS: tuple[int, ...] = ()
LINEAR = (1, 0)  # torch [out, in] -> flax [in, out]
CONVOLUTION = (2, 3, 1, 0)  # torch [out, in, h, w] -> flax [h, w, in, out]


class PublishedError(VitjaxError):
    """Published weights and a model do not fit each other; the message lists every tensor concerned."""


@cache
def _pattern(template: str) -> re.Pattern[str]:
    """Regex of a template, with a group of digits for each `{field}`."""
    return re.compile(re.sub(r"\\{(\w+)\\}", r"(?P<\1>\\d+)", re.escape(template)))


@dataclass(frozen=True)
class Rule:
    """A published tensor is cut into as many equal parts as there are paths, and the axes of each are permuted."""

    published: str
    paths: tuple[str, ...]
    axes: tuple[int, ...] = AS_IS

    def split(self, tensor: np.ndarray) -> list[np.ndarray]:
        """The parts of a published tensor in our layout."""
        if self.axes and tensor.ndim != len(self.axes):
            raise PublishedError(f"expected {len(self.axes)} axes, got shape {tensor.shape}")
        if len(self.paths) > 1 and (tensor.ndim == 0 or tensor.shape[0] % len(self.paths)):
            raise PublishedError(f"expected a first axis divisible by {len(self.paths)}, got shape {tensor.shape}")
        parts = np.split(tensor, len(self.paths)) if len(self.paths) > 1 else [tensor]
        return [np.ascontiguousarray(part.transpose(self.axes)) if self.axes else part for part in parts]

    def join(self, parts: list[np.ndarray]) -> np.ndarray:
        """The published tensor of our arrays."""
        if self.axes:
            parts = [part.transpose(np.argsort(self.axes)) for part in parts]
        return np.ascontiguousarray(np.concatenate(parts)) if len(parts) > 1 else np.ascontiguousarray(parts[0])


@dataclass(frozen=True)
class Table:
    """The rules of one family of published checkpoints.

    `disposable` are regexes of names that carry nothing to keep. `aliases` are regexes of how names begin that are the
    same tensor as the name that begins otherwise: files hold both or one of them, we write the latter. Where names and
    paths count differently, `numbers` takes the numbers of either to those of both, and to None where there is no such
    place.
    """

    name: str
    rules: tuple[Rule, ...]
    aliases: tuple[tuple[str, str], ...] = ()
    disposable: tuple[str, ...] = (r".*\.num_batches_tracked",)
    numbers: Callable[[dict[str, str]], dict[str, str] | None] = dict

    @cached_property
    def paths(self) -> tuple[tuple[str, Rule], ...]:
        """Every path template with its rule."""
        return tuple((path, rule) for rule in self.rules for path in rule.paths)

    def drops(self, name: str) -> bool:
        """Whether a published name may be left behind."""
        return any(re.fullmatch(pattern, name) for pattern in self.disposable)

    def primary(self, name: str) -> str:
        """The name of the tensor that a published name stands for: nearly always itself."""
        for pattern, beginning in self.aliases:
            if match := re.match(pattern, name):
                return match.expand(beginning) + name[match.end() :]
        return name

    def of_published(self, name: str) -> tuple[Rule, dict[str, str]] | None:
        """The rule of a published name, and the numbers in the name."""
        name = self.primary(name)
        for rule in self.rules:
            match = _pattern(rule.published).fullmatch(name)
            if match and (numbers := self.numbers(match.groupdict())) is not None:
                return rule, numbers
        return None

    def of_path(self, path: str) -> tuple[Rule, dict[str, str]] | None:
        """The rule of one of our paths, and the numbers in the path."""
        for template, rule in self.paths:
            match = _pattern(template).fullmatch(path)
            if match and (numbers := self.numbers(match.groupdict())) is not None:
                return rule, numbers
        return None


def layer(published: str, ours: str, axes: tuple[int, ...] = LINEAR) -> tuple[Rule, ...]:
    """Weight and bias of a linear layer or a convolution."""
    return (
        Rule(f"{published}.weight", (f"params/{ours}/kernel",), axes),
        Rule(f"{published}.bias", (f"params/{ours}/bias",)),
    )


def norm(published: str, ours: str) -> tuple[Rule, ...]:
    """Weight and bias of a norm that learns."""
    pairs = (("weight", "scale"), ("bias", "bias"))
    return tuple(Rule(f"{published}.{theirs}", (f"params/{ours}/{name}",)) for theirs, name in pairs)


def frozen_norm(published: str, ours: str) -> tuple[Rule, ...]:
    """The four arrays of a frozen batch norm."""
    pairs = (("weight", "scale"), ("bias", "bias"), ("running_mean", "mean"), ("running_var", "var"))
    return tuple(Rule(f"{published}.{theirs}", (f"frozen/{ours}/{name}",)) for theirs, name in pairs)


@dataclass(frozen=True)
class TensorFile:
    """The tensors of a file by name, the settings that it says they were made with, and what the file is called.

    `notes` are lines for people on what was taken of it.
    """

    tensors: dict[str, np.ndarray]
    settings: dict[str, Any]
    name: str = ""
    notes: tuple[str, ...] = ()


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
