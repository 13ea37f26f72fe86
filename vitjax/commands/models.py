"""`vitjax models`: a table of what can be trained."""

import textwrap
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import tyro

from vitjax.runs.configs import Described, described

_WIDTH = 100
_NOTHING = ("none", "not measured")  # how a score begins that there is not


def run(words: list[str]) -> None:
    """Prints the table."""
    tyro.cli(table, prog="vitjax models", args=words, console_outputs=True)
    print(table())


def table() -> str:
    """Every config by the class of its model, with the parameters that train, and the scores published and measured.

    All of it is what the configs say of themselves; no model is built.
    """
    groups = groupby(sorted(described(), key=_class), key=_class)
    blocks = ["\n".join([kind, *_block(list(configs))]) for kind, configs in groups]
    end = (
        "By model: config, backbone and head, and the parameters that train. A score that is not there was neither "
        "published nor measured. `python train.py CONFIG` trains one, and with --help lists its fields."
    )
    return "\n\n".join([*blocks, textwrap.fill(end, _WIDTH)])


def architecture(model: Any) -> str:
    """A model's class, its backbone as people call it, and the class of its head if it is a module."""
    backbone, head = getattr(model, "backbone", None), getattr(model, "head", None)
    parts = [getattr(backbone, "title", type(backbone).__name__)] if backbone else []
    parts += [f"and {type(head).__name__}"] if head else []
    return " ".join([type(model).__name__, *parts])


def parameters(trainable: int, frozen: int, classes: int, queries: int = 0) -> str:
    """What a config says of its parameters; how many `queries` only where the data decide and it makes a difference."""
    counted = f"{classes:,} classes{f' and {queries} queries' if queries else ''}"
    return f"{trainable:,} with {counted}{f', {frozen:,} more are frozen' if frozen else ''}"


def _class(config: Described) -> str:
    return config.said("Model").partition(" ")[0]


def _block(configs: Sequence[Described]) -> Iterator[str]:
    models = [config.said("Model").partition(" ")[2] for config in configs]
    counts, _, rests = zip(*(config.said("Parameters").partition(" ") for config in configs), strict=True)
    name, model, count = (max(map(len, column)) for column in ([each.name for each in configs], models, counts))
    for config, built, trainable, rest in zip(configs, models, counts, rests, strict=True):
        yield f"  {config.name:<{name}}  {built:<{model}}  {trainable:>{count}}"
        scores = [(label, config.said(label)) for label in ("Published", "Measured here")]
        said = [f"{label.lower()}: {score}" for label, score in scores if not score.startswith(_NOTHING)]
        yield from textwrap.wrap("; ".join([rest, *said]), _WIDTH, initial_indent=" " * 6, subsequent_indent=" " * 6)
