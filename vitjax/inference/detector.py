"""Detections for every image of a source, in batches, compiled once per bucket."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import flax.linen as nn
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float, Int

from vitjax.data.plan import EvaluationPlan
from vitjax.data.source import SizedSource
from vitjax.data.transforms import Resize
from vitjax.detection.postprocess import Postprocess
from vitjax.inference.sweep import sweep
from vitjax.placement import compile_predict_step
from vitjax.segmentation.detr_masks import MaskDETR
from vitjax.segmentation.masks import Masks
from vitjax.structs import MaskDetections
from vitjax.training.steps import make_mask_step, make_predict_step


@dataclasses.dataclass(frozen=True)
class Found:
    """What was found on one record: scores, labels and boxes, xyxy in pixels of the original image.

    There are masks where the model makes them. Where the image could not be read `readable` is False and nothing was
    found.
    """

    record: int
    scores: Float[np.ndarray, " detections"]
    labels: Int[np.ndarray, " detections"]
    boxes: Float[np.ndarray, "detections 4"]
    readable: bool = True
    masks: Masks | None = None


def _found(record: int, row: Any) -> Found:
    if not isinstance(row, MaskDetections):
        return Found(record, row.scores, row.labels, row.boxes)
    logits: Any = row.masks[:, : int(row.valid.any(1).sum()), : int(row.valid.any(0).sum())]
    seen, size = ((int(height), int(width)) for height, width in (row.sizes, row.original_sizes))
    return dataclasses.replace(_found(record, row.detections), masks=Masks(logits, seen, size))


def _unreadable(record: int) -> Found:
    nothing = np.zeros(0, np.float32)
    return Found(record, nothing, np.zeros(0, np.int32), nothing.reshape(0, 4), readable=False)


class Detector:
    """A model with its resizing and post-processing, ready to run over sources with any variables of it."""

    def __init__(self, model: nn.Module, postprocess: Postprocess, resize: Resize, mesh: Mesh) -> None:
        """Compiles nothing yet; the first batch of each bucket does."""
        self.threshold = postprocess.threshold
        self._resize = resize
        self._mesh = mesh
        make_step = make_mask_step if isinstance(model, MaskDETR) else make_predict_step
        self._step: Callable = compile_predict_step(make_step(model, postprocess), mesh)

    def __call__(
        self, variables: dict[str, Any], source: SizedSource, *, batch_size: int, multiple: int = 32, workers: int = 0
    ) -> Iterator[Found]:
        """What is found on each record once, in the order of the batches.

        Images are padded to sides that are a multiple of `multiple`; `batch_size` is a multiple of the devices.
        """
        if len(source) == 0:
            return
        plan = EvaluationPlan(source.sizes, batch_size, self._resize, multiple=multiple)
        for record, _, row in sweep(self._step, variables, source, plan, self._mesh, workers=workers):
            yield _unreadable(record) if row is None else _found(record, row)
