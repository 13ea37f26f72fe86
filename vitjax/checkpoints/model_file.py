"""A model with its weights and all that is needed to use it, from whatever people have."""

import dataclasses
from typing import Any

import flax.linen as nn

from vitjax.checkpoints.tables import Table
from vitjax.classification.postprocess import TopClasses
from vitjax.data.crops import CenterCrop
from vitjax.data.source import Classes
from vitjax.data.transforms import Resize
from vitjax.detection.postprocess import BestClass, TopDetections


@dataclasses.dataclass(frozen=True)
class ModelFile:
    """A model, its variables as NumPy arrays, what its labels mean, and what is done before and after it.

    `table` has the official names of its tensors, `step` is that of a run's checkpoint, and `notes` are lines for
    people on what was guessed or left behind.
    """

    model: nn.Module
    variables: dict[str, Any]
    classes: Classes
    table: Table
    resize: Resize | CenterCrop
    postprocess: BestClass | TopDetections | TopClasses
    notes: tuple[str, ...] = ()
    step: int = 0
