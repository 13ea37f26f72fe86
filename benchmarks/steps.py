"""Training steps by the names of their configs, on batches of noise, as functions that can be timed."""

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from vitjax.backbones import ResNet
from vitjax.batch import Batch, Targets
from vitjax.classification import Mixing
from vitjax.classification.erasing import Erasing
from vitjax.placement import data_mesh, place_batch, place_state
from vitjax.runs.configs import load_config
from vitjax.training.first_weights import first_variables
from vitjax.training.state import TrainState, initial_state
from vitjax.training.steps import Step, make_train_step

FROM_DATA = {"num_classes": 91, "num_queries": 100}
"""What models have where their config takes it from the data."""
_STEPS = 1000  # of a run, for the learning rate


@dataclasses.dataclass
class Training:
    """A compiled step with the state before it and the parts of a batch; each call takes the next step."""

    step: Step
    state: TrainState
    parts: list[Batch]

    def __call__(self) -> Any:
        """The metrics of the step, once it is done."""
        self.state, metrics = self.step(self.state, self.parts)
        return jax.block_until_ready(metrics)

    def traced(self) -> Any:
        """The program that holds the model, traced."""
        (batch,) = self.parts
        return self.step.traced(self.state, batch)

    def program(self) -> Any:
        """The compiled program that holds the model."""
        return self.traced().lower().compile()


def experiment_of(name: str, *, small: bool = False, dtype: str | None = None) -> Any:
    """The experiment of a config, with images neither mixed nor erased; `small` is a model that takes no time."""
    experiment: Any = load_config(name).experiment
    model = experiment.model
    changes = {field: number for field, number in FROM_DATA.items() if getattr(model, field, number) is None}
    if small:
        changes |= _small_fields(model)
    if dtype is not None:
        kept = changes.get("backbone", model.backbone)
        changes |= {"backbone": kept.clone(dtype=dtype)} | ({"dtype": dtype} if hasattr(model, "dtype") else {})
    if experiment.kind == "classification":
        plain = {"mixing": Mixing(probability=0.0), "erasing": Erasing(probability=0.0)}
        experiment = dataclasses.replace(experiment, **plain)
    return dataclasses.replace(experiment, model=model.clone(**changes))


def _small_fields(model: Any) -> dict[str, Any]:
    if model.task == "classification":
        return {"backbone": model.backbone.clone(channels=16, depths=(1, 1, 1, 1), heads=(1, 2, 4, 8))}
    sizes = {"channels": 32, "heads": 2, "encoder_layers": 1, "decoder_layers": 1, "feed_forward": 32}
    stages = getattr(model, "backbone_levels", 2)
    return {"backbone": ResNet(depth=18, width=8, stage_blocks=(1,) * stages), "num_queries": 10, **sizes}


def training(experiment: Any, batch: Batch) -> Training:
    """The steps of an experiment on one batch, from random weights; nothing is compiled yet but what draws them."""
    mesh, optimizer = data_mesh(jax.devices()[:1]), experiment.optimizer.for_batch_size(experiment.batch_size)
    variables = first_variables(experiment.model, seed=0)
    trainable, _ = optimizer.partition(variables["params"])
    transformation = optimizer.transformation(trainable, _STEPS, _STEPS)
    step = make_train_step(experiment.objective(mesh), optimizer, transformation, mesh)
    state = place_state(initial_state(variables, optimizer, transformation, 0), mesh)
    return Training(step, state, [place_batch(batch, mesh)])


def random_batch(experiment: Any, shape: tuple[int, int, int], objects: int, places: int) -> Batch:
    """Noise for so many images of a height and a width, each with `objects` somewhere and room for `places` of them.

    For a classifier each has one label; where the model finds masks, they are noise, too.
    """
    images, height, width = shape
    if experiment.kind == "classification":
        objects = places = 1
    rng = np.random.default_rng(0)
    sizes = np.tile(np.int32([height, width]), (images, 1))
    centres, sides = rng.uniform(0.3, 0.7, (2, images, places, 2)).astype(np.float32)
    labels = rng.integers(experiment.model.num_classes, size=(images, places), dtype=np.int32)
    valid = np.tile(np.arange(places) < objects, (images, 1))
    targets = Targets(np.concatenate([centres, sides / 2], -1), labels, valid)
    rows = np.arange(images, dtype=np.int32)
    pixels = rng.integers(256, size=(images, height, width, 3), dtype=np.uint8)
    planes = None
    if hasattr(experiment.model, "inside"):
        planes = rng.integers(256, size=(images, height, width, -(-places // 8)), dtype=np.uint8)
    return Batch(pixels, sizes, targets, rows, sizes, np.full(images, -1, np.int32), masks=planes)


def seconds(turn: Callable[[], Any]) -> float:
    """What one call takes: seconds of CPU where that is the device, else on the clock."""
    clock = time.process_time if jax.default_backend() == "cpu" else time.perf_counter
    began = clock()
    turn()
    return clock() - began
