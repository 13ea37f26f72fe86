"""Weights of one model for another: what fits is taken, heads and queries are made to fit, and what is new is told."""

import dataclasses
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from vitjax.data.source import Classes

Flat = Mapping[str, Any]

_HEAD = re.compile(r"params/(?:proposals/)?(class_head(_\d+)?|head)/(kernel|bias)")
_LABELS = ("params/label_embedding",)  # a row for each class
_QUERIES = ("params/query_embedding",)
_LAYER_HEAD = re.compile(r"params/(class|box)_head(?:_(\d+))?/(.+)")
_NOISE = 0.1  # deviation of what new queries differ by from those they are copied from, as a share of all deviation


@dataclasses.dataclass(frozen=True)
class Adapted:
    """Arrays by path, in the shapes of the new model; what became of each path; and given paths that found no place."""

    arrays: dict[str, np.ndarray]
    fates: dict[str, str]
    unused: tuple[str, ...]

    @property
    def taken(self) -> list[str]:
        """The paths whose arrays are those given, or made of them."""
        return [path for path, fate in self.fates.items() if not fate.startswith("new")]

    def table(self, wanted: Flat) -> tuple[str, ...]:
        """Lines for people: for each part of the model and each fate the number of arrays and of parameters."""
        counts: Counter[tuple[str, str]] = Counter()
        sizes: Counter[tuple[str, str]] = Counter()
        for path, leaf in wanted.items():
            row = (_part(path), self.fates[path])
            counts[row] += 1
            sizes[row] += int(np.prod(leaf.shape))
        width = max(len(part) for part, _ in counts)
        lines = [f"{'part':<{width}}  arrays   parameters"]
        lines += [
            f"{part:<{width}}  {counts[part, fate]:>6}  {sizes[part, fate]:>11,}  {fate}" for part, fate in counts
        ]
        left = Counter(_part(path) for path in self.unused)
        lines += [f"{part:<{width}}  {count:>6}  {'':>11}  not used" for part, count in left.items()]
        return tuple(lines)


def adapt(
    given: Flat, wanted: Flat, *, old: Classes | None = None, new: Classes | None = None, seed: int = 0
) -> Adapted:
    """What `given` holds for a model of the arrays `wanted`; everything else keeps the values that it has there.

    Queries are copied, cut, or extended by copies with noise. With both `old` and `new` classes the columns of a class
    head, and the rows of an embedding of labels, are taken by the names of the classes. A decoder whose layers have
    heads of their own takes the one that all layers shared, and the proposals of a two-stage model the head of the last
    layer.
    """
    arrays, fates, used = {}, {}, set()
    rng = np.random.default_rng(seed)
    for path, leaf in wanted.items():
        source = path if path in given else _other_head(path, given)
        found, fate = (None, "new") if source is None else _fitted(path, given[source], leaf, old, new, rng)
        if found is None:
            arrays[path], fates[path] = np.asarray(leaf), fate
        else:
            arrays[path] = np.asarray(found).astype(leaf.dtype)
            fates[path] = fate if source == path else f"{fate}, of {_part(source or '')}"
        if source is not None:
            used.add(source)
    return Adapted(arrays, fates, tuple(sorted(set(given) - used)))


def not_whole(given: Flat, wanted: Flat, *, by_name: bool) -> frozenset[str]:
    """The paths whose first values `adapt` looks at: all but those that are given in their shape.

    Class heads that are taken by the names of classes keep the columns of others.
    """
    named = {path for path in wanted if _HEAD.fullmatch(path) or path in _LABELS} if by_name else set()
    whole = {path for path, leaf in wanted.items() if path in given and given[path].shape == leaf.shape}
    return frozenset(wanted.keys() - whole) | named


def is_class_bias(path: str) -> bool:
    """Whether a path is that of the bias of a class head, which has an entry for every class."""
    return path.endswith("/bias") and _HEAD.fullmatch(path) is not None


def _fitted(
    path: str, given: Any, wanted: Any, old: Classes | None, new: Classes | None, rng: np.random.Generator
) -> tuple[np.ndarray | None, str]:
    """The given array in the wanted shape, or None where it cannot have it; and what was done."""
    if _HEAD.fullmatch(path) and old is not None and new is not None:
        return _columns_by_name(np.asarray(given), np.asarray(wanted), old, new)
    if path in _LABELS and old is not None and new is not None:
        found, fate = _columns_by_name(np.asarray(given).T, np.asarray(wanted).T, old, new)
        return None if found is None else found.T, fate
    if given.shape == wanted.shape:
        return np.asarray(given), "taken"
    if path in _QUERIES and given.shape[1:] == wanted.shape[1:]:
        return _resized_queries(np.asarray(given), len(wanted), rng)
    return None, f"new: {wanted.shape} here, {given.shape} there"


def _columns_by_name(
    given: np.ndarray, wanted: np.ndarray, old: Classes, new: Classes
) -> tuple[np.ndarray | None, str]:
    """Columns of the classes that both have, and of 'no object' where both heads have one more column for it."""
    if given.shape[:-1] != wanted.shape[:-1]:
        return None, f"new: {wanted.shape} here, {given.shape} there"
    place = {name: label for label, name in enumerate(old.names) if name}
    pairs = [(label, place[name]) for label, name in enumerate(new.names) if name in place]
    result = wanted.copy()
    for here, there in pairs:
        result[..., here] = given[..., there]
    if given.shape[-1] == len(old) + 1 and wanted.shape[-1] == len(new) + 1:
        result[..., -1] = given[..., -1]
    named = sum(bool(name) for name in new.names)
    return result, f"taken for {len(pairs)} of {named} classes by name"


def _resized_queries(given: np.ndarray, count: int, rng: np.random.Generator) -> tuple[np.ndarray, str]:
    if count <= len(given):
        return given[:count], f"cut from {len(given)} to {count} queries"
    more = given[np.arange(count - len(given)) % len(given)]
    noise = _NOISE * given.std() * rng.standard_normal(more.shape)
    return np.concatenate([given, more + noise]), f"extended from {len(given)} to {count} queries, copies with noise"


def _other_head(path: str, given: Flat) -> str | None:
    """The path of a head in `given` that can stand for a head of another layer."""
    match = _LAYER_HEAD.fullmatch(path)
    if match is None:
        return None
    kind, _, rest = match.groups()
    heads = [(found, other) for other in given if (found := _LAYER_HEAD.fullmatch(other))]
    others = [(int(found[2] or -1), other) for found, other in heads if (found[1], found[3]) == (kind, rest)]
    return max(others)[1] if others else None


def _part(path: str) -> str:
    """The part of a model that a path belongs to: the top of its tree, and the stage of a backbone."""
    _, *names = path.split("/")
    return "/".join(names[: 2 if names[0] == "backbone" else 1])
