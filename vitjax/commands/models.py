"""`vitjax models`: a table of what can be trained."""

import flax.linen as nn
import tyro

from vitjax.families.model_file import shapes_of
from vitjax.runs.configs import Config, load_config, names
from vitjax.runs.experiment import Experiment
from vitjax.training.prepare import count

_COCO_LABELS = 91


def run(words: list[str]) -> None:
    """Prints the table."""
    tyro.cli(table, prog="vitjax models", args=words, console_outputs=True)
    print(table())


def shapes(experiment: Experiment) -> dict:
    """The shapes of the model's variables, without computing any; 91 classes where the data decides."""
    model = experiment.model
    if getattr(model, "num_classes", 0) is None:
        model = model.clone(num_classes=_COCO_LABELS)
    return shapes_of(model)


def table() -> str:
    """One line per config: architecture, parameters (trainable and all), published and measured score."""
    rows: list[tuple[str, ...]] = [("config", "model", "trainable", "parameters", "published", "measured here")]
    rows += [_row(load_config(name)) for name in names()]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([*lines, "", f"Parameters are those with {_COCO_LABELS} classes where the data decides."])


def _row(config: Config) -> tuple[str, ...]:
    params = shapes(config.experiment)["params"]
    trainable, frozen = (count(part) for part in config.experiment.optimizer.partition(params))
    model = config.experiment.model
    said = (config.said("Published"), config.said("Measured here"))
    return (config.name, _architecture(model), f"{trainable:,}", f"{trainable + frozen:,}", *said)


def _architecture(model: nn.Module) -> str:
    """A model's class, its backbone as people call it, and the class of its head if it is a module."""
    backbone, head = getattr(model, "backbone", None), getattr(model, "head", None)
    parts = [getattr(backbone, "title", type(backbone).__name__)] if backbone else []
    parts += [f"and {type(head).__name__}"] if head else []
    return " ".join([type(model).__name__, *parts])
