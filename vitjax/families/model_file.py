"""A model with its weights and all that is needed to use it, from whatever people have."""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from vitjax.data.crops import CenterCrop
from vitjax.data.source import Classes
from vitjax.data.transforms import Resize
from vitjax.families.known import detector_inside
from vitjax.placement import Precision
from vitjax.structs import Images


@dataclasses.dataclass(frozen=True)
class ModelFile:
    """A model, its variables as NumPy arrays, what its labels mean, and what is done before and after it.

    `step` is that of a run's checkpoint and `matmul_precision` the run's; `notes` are lines for people on what was
    guessed or left behind; `origin` says which checkpoint of what it is, and `shown_from` where the threshold of its
    post-processing comes from.
    """

    model: nn.Module
    variables: dict[str, Any]
    classes: Classes
    resize: Resize | CenterCrop
    postprocess: Any
    notes: tuple[str, ...] = ()
    step: int = 0
    matmul_precision: Precision = "default"
    origin: str = ""
    shown_from: str = "the default"

    def without_masks(self) -> "ModelFile":
        """The detector inside a model with masks, for those who know no masks; any other model as it is."""
        model, variables = detector_inside(self.model, self.variables)
        if model is self.model:
            return self
        note = "note: the mask head is left behind; what is taken is the detector"
        return dataclasses.replace(self, model=model, variables=variables, notes=(*self.notes, note))


def shapes_of(model: nn.Module) -> dict[str, Any]:
    """The shapes of a model's variables, without computing any."""
    images = Images(jnp.zeros((1, 64, 64, 3)), jnp.ones((1, 64, 64), bool))
    return jax.eval_shape(lambda: model.init(jax.random.key(0), images, train=False))
