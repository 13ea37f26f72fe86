"""The label map of every image of a source, in batches, compiled once per bucket."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import flax.linen as nn
import numpy as np
from jax.sharding import Mesh
from jaxtyping import UInt8

from vitjax.data.plan import EvaluationPlan
from vitjax.data.source import SizedSource
from vitjax.data.transforms import Resize, resize_labels
from vitjax.inference.sweep import sweep
from vitjax.placement import compile_predict_step
from vitjax.segmentation.label_map import BestLabel
from vitjax.training.steps import make_map_step


@dataclasses.dataclass(frozen=True)
class Mapped:
    """The class of every pixel of one record, as large as its image came from the source.

    Where the image could not be read `readable` is False, and the map is empty.
    """

    record: int
    label_map: UInt8[np.ndarray, "height width"]
    readable: bool = True


class LabelMapper:
    """A segmentation model with its resizing, ready to run over sources with any variables of it."""

    def __init__(self, model: nn.Module, postprocess: BestLabel, resize: Resize, mesh: Mesh) -> None:
        """Compiles nothing yet; the first batch of each bucket does."""
        self._resize = resize
        self._mesh = mesh
        self._step: Callable = compile_predict_step(make_map_step(model, postprocess), mesh)

    def __call__(
        self, variables: dict[str, Any], source: SizedSource, *, batch_size: int, multiple: int = 32, workers: int = 0
    ) -> Iterator[Mapped]:
        """The label map of each record once, in the order of the batches.

        Images are padded to sides that are a multiple of `multiple`; `batch_size` is a multiple of the devices.
        """
        if len(source) == 0:
            return
        plan = EvaluationPlan(source.sizes, batch_size, self._resize, multiple=multiple)
        seen = self._resize.geometries(source.sizes).output
        for record, _, row in sweep(self._step, variables, source, plan, self._mesh, workers=workers):
            if row is None:
                yield Mapped(record, np.zeros((0, 0), np.uint8), readable=False)
                continue
            height, width = seen[record].tolist()
            original: tuple[int, int] = tuple(source.sizes[record].tolist())
            yield Mapped(record, resize_labels(np.asarray(row)[:height, :width], original))
