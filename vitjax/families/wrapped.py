"""The tensors of a model without what stands before all their names, and without what stands beside the model."""

import re
from collections import Counter
from collections.abc import Callable, Iterable

from vitjax.families.family import Notes, Tensors
from vitjax.formats.checkpoint import COUNTERS, is_average
from vitjax.formats.tables import Arrays

# What trainers keep beside a model: losses, metrics, the numbers that images are normalised with, and counters.
_BESIDE = re.compile(
    r"(\w+_)?(criterion|matcher|loss|losses|loss_fn|metric|metrics|postprocessor|postprocessors)\..+"
    r"|(train|val|valid|test)_\w+\..+|(pixel_)?(mean|std)"
    rf"|(.+\.)?({'|'.join(COUNTERS)})"
)
_DEEPEST = 4  # words before a name
_LEAST = 0.2  # of all names begin with what may stand before those of a model


def unwrapped(tensors: Tensors, known: Callable[[Iterable[str]], int]) -> tuple[Arrays, Notes]:
    """The tensors by the names of which most are known, which `known` counts, and lines on what is left behind.

    Of two models whose names are known as well as each other's, the averaged weights (EMA) are taken. A tensor that is
    not of the model, and of nothing that is known to stand beside one, keeps its name.
    """
    model = {name: tensor for name, tensor in tensors.items() if not _BESIDE.fullmatch(name)}
    whole = known(model)
    prefixes = _prefixes(model, least=1.0 if whole == len(model) else _LEAST)
    counts = {prefix: known(_under(model, prefix)) for prefix in prefixes}
    notes = [f"note: {len(tensors) - len(model)} tensors beside the model are left behind"] if model != tensors else []
    best = max(counts, key=lambda prefix: (counts[prefix], is_average(prefix), -len(prefix)), default="")
    if not counts.get(best) or counts[best] < whole + (len(_under(model, best)) < len(model)):
        return model, tuple(notes)
    others = [prefix for prefix in counts if counts[prefix] == counts[best] and not prefix.startswith(best)]
    others = [prefix for prefix in others if not best.startswith(prefix)]
    kind = "averaged weights (EMA)" if is_average(best) else "weights"
    notes += [f"note: the {kind} under {best!r} are taken, and not those under {other!r}" for other in others]
    rest = {name: model[name] for name in model if not name.startswith((best, *others))}
    return {**_under(model, best), **rest}, tuple(notes)


def _prefixes(tensors: Tensors, *, least: float) -> list[str]:
    """What at least a share of the names begin with, up to a dot."""
    words = [name.split(".")[:-1] for name in tensors]
    counts = Counter(".".join(own[:end]) + "." for own in words for end in range(1, min(len(own), _DEEPEST) + 1))
    return [prefix for prefix, count in counts.items() if count >= least * len(tensors)]


def _under(tensors: Tensors, prefix: str) -> Arrays:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
