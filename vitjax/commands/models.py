"""`vitjax models`: a table of what can be trained."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import tyro

from vitjax.backbones.crossformer import CrossFormer
from vitjax.backbones.resnet import ResNet
from vitjax.runs.configs import Config, load_config, names
from vitjax.runs.experiment import Experiment
from vitjax.structs import Images
from vitjax.training.prepare import count

_COCO_LABELS = 91


def run(words: list[str]) -> None:
    """Prints the table."""
    tyro.cli(table, prog="vitjax models", args=words, console_outputs=True)
    print(table())


def shapes(experiment: Experiment) -> dict:
    """The shapes of the model's variables, without computing any; 91 classes where the data decides."""
    model = experiment.model
    model = model.clone(num_classes=_COCO_LABELS) if model.num_classes is None else model
    images = Images(jnp.zeros((1, 64, 64, 3)), jnp.ones((1, 64, 64), bool))
    return jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), images)


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
    backbone, head = getattr(model, "backbone", None), getattr(model, "head", None)
    parts = [_backbone(backbone)] if backbone else []
    parts += [f"and {type(head).__name__}"] if head else []
    architecture = " ".join([type(model).__name__, *parts])
    return (config.name, architecture, f"{trainable:,}", f"{trainable + frozen:,}", *said)


def _backbone(backbone: nn.Module) -> str:
    if isinstance(backbone, ResNet):
        attention = f" with {type(backbone.attention).__name__}" if backbone.attention else ""
        return f"ResNet-{backbone.depth}{'-DC5' if backbone.dilation else ''}{attention}"
    if isinstance(backbone, CrossFormer):
        family, depths = "CrossFormer++" if backbone.cooling else "CrossFormer", "+".join(map(str, backbone.depths))
        return f"{family}-{backbone.channels} of {depths} blocks"
    return type(backbone).__name__
