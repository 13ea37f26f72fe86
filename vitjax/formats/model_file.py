"""A model with its weights and all that is needed to use it, from whatever people have."""

import dataclasses
from typing import Any

import flax.linen as nn

from vitjax.classification.postprocess import TopClasses
from vitjax.data.crops import CenterCrop
from vitjax.data.source import Classes
from vitjax.data.transforms import Resize
from vitjax.detection.postprocess import BestClass, TopDetections
from vitjax.formats.tables import DETR, Table
from vitjax.segmentation.detr_masks import MaskDETR, detector_inside
from vitjax.segmentation.label_map import BestLabel


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
    postprocess: BestClass | TopDetections | TopClasses | BestLabel
    notes: tuple[str, ...] = ()
    step: int = 0

    def without_masks(self) -> "ModelFile":
        """The detector inside a model with masks, for those who know no masks; any other model as it is."""
        if not isinstance(self.model, MaskDETR):
            return self
        model, variables = detector_inside(self.model, self.variables)
        note = "note: the mask head is left behind; what is taken is the detector"
        return dataclasses.replace(self, model=model, variables=variables, table=DETR, notes=(*self.notes, note))
