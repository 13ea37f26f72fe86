"""The best classes of every image of a source, in batches of one size, compiled once."""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any

import flax.linen as nn
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float, Int

from vitjax.classification.postprocess import TopClasses
from vitjax.data.crop_plan import CropEvaluationPlan
from vitjax.data.crops import CenterCrop
from vitjax.data.source import Source
from vitjax.inference.sweep import sweep
from vitjax.placement import compile_predict_step
from vitjax.training.steps import make_rank_step


@dataclasses.dataclass(frozen=True)
class Recognized:
    """The most probable classes of one record, best first, and its label, -1 where it has none.

    Where the image could not be read `readable` is False, and there are no classes and no label.
    """

    record: int
    scores: Float[np.ndarray, " k"]
    labels: Int[np.ndarray, " k"]
    truth: int
    readable: bool = True


class Recognizer:
    """A classifier with its cropping and post-processing, ready to run over sources with any variables of it."""

    def __init__(self, model: nn.Module, postprocess: TopClasses, crop: CenterCrop, mesh: Mesh) -> None:
        """Compiles nothing yet; the first batch does."""
        self.top = postprocess.k
        self._crop = crop
        self._mesh = mesh
        self._step: Callable[[int], Callable] = functools.lru_cache(maxsize=4)(
            lambda k: compile_predict_step(make_rank_step(model, TopClasses(k)), mesh)
        )

    def __call__(
        self, variables: dict[str, Any], source: Source, *, batch_size: int, top: int | None = None, workers: int = 0
    ) -> Iterator[Recognized]:
        """The `top` best classes of each record once, in order; `batch_size` is a multiple of the devices.

        Without `top` there are as many as the post-processing says.
        """
        plan, step = CropEvaluationPlan(len(source), batch_size, self._crop), self._step(top or self.top)
        for record, labels, row in sweep(step, variables, source, plan, self._mesh, workers=workers):
            if row is None:
                yield Recognized(record, np.zeros(0, np.float32), np.zeros(0, np.int32), -1, readable=False)
            else:
                yield Recognized(record, row.scores, row.labels, int(labels[0]) if len(labels) else -1)
