"""One object for each task: what its runs are made of, and how its models predict, are scored, saved and drawn."""

import importlib
from typing import Any

import flax.linen as nn

from vitjax.errors import FieldError
from vitjax.runs.experiment import DETECTION, Experiment

TASKS = {  # a task's name, as models have it -> its experiment, imported when it is asked for
    "detection": "vitjax.tasks.detection:Detection",
    "classification": "vitjax.tasks.classification:Classification",
    "segmentation": "vitjax.tasks.segmentation:Segmentation",
    "masks": "vitjax.tasks.masks:MaskDetection",
}


def experiment_of(model: nn.Module) -> type[Experiment]:
    """The kind of experiment that trains a model; one without a `task` of its own is a detector.

    Raises:
        FieldError: there is no such task.
    """
    task = getattr(model, "task", DETECTION)
    if task not in TASKS:
        raise FieldError(f"{type(model).__name__} is for the task {task!r}; there are {', '.join(TASKS)}.")
    module, _, name = TASKS[task].partition(":")
    kind: Any = getattr(importlib.import_module(module), name)
    return kind
