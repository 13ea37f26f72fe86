"""Runs on images of many sizes, which are padded in batches."""

import dataclasses
from typing import Any

from vitjax.data.plan import TrainPlan
from vitjax.data.source import SizedSource
from vitjax.runs.experiment import Experiment
from vitjax.runs.numbers import COUNT_FROM_1, POSITIVE, or_none, require


@dataclasses.dataclass(frozen=True, kw_only=True)
class SizedExperiment(Experiment):
    """A run whose batches have buckets of sizes."""

    buckets: int = 12
    """Most (height, width) that batches are padded to, each of which is compiled. A batch has images of one of them, so
    they are alike in size; with 1 they are independent, as in the published recipes, and more of a batch is padding."""
    mixed_parts: bool = True
    """With micro_batches, whether each part has images of a bucket of its own, so that a step sees several."""
    repeat_threshold: float | None = None
    """Share of the images below which a class is rare, 0.001 for LVIS: an image with one comes sqrt(threshold / share)
    times as often as others (repeat factor sampling). An epoch has as many images as before. None: all come once."""

    def __post_init__(self) -> None:
        """Raises a FieldError where parts do not go together, or a number means nothing."""
        super().__post_init__()
        require(self, {"buckets": COUNT_FROM_1, "repeat_threshold": or_none(POSITIVE)})

    def plan(self, source: SizedSource) -> TrainPlan:
        """Buckets of image sizes."""
        parts = self.micro_batches if self.mixed_parts else 1
        options: dict[str, Any] = {"max_buckets": self.buckets, "parts": parts, "weights": self._weights(source)}
        return TrainPlan(source.sizes, self.batch_size, self.augmentation, self.seed, **options)

    def _weights(self, source: SizedSource) -> Any:
        """What each image weighs in the sampling; None where all weigh the same."""
        if self.repeat_threshold is None:
            return None
        from vitjax.data.balance import present_classes, repeat_factors

        factors = repeat_factors(present_classes(source), self.repeat_threshold)
        return factors if (factors > 1).any() else None
