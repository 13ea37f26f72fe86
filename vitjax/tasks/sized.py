"""Runs on images of many sizes, which are padded in batches."""

import dataclasses

from vitjax.data.plan import TrainPlan
from vitjax.data.source import SizedSource
from vitjax.runs.experiment import Experiment
from vitjax.runs.numbers import COUNT_FROM_1, require


@dataclasses.dataclass(frozen=True, kw_only=True)
class SizedExperiment(Experiment):
    """A run whose batches have buckets of sizes."""

    buckets: int = 12
    """Most (height, width) that batches are padded to, each of which is compiled. A batch has images of one of them, so
    they are alike in size; with 1 they are independent, as in the published recipes, and more of a batch is padding."""
    mixed_parts: bool = True
    """With micro_batches, whether each part has images of a bucket of its own, so that a step sees several."""

    def __post_init__(self) -> None:
        """Raises a FieldError where parts do not go together, or a number means nothing."""
        super().__post_init__()
        require(self, {"buckets": COUNT_FROM_1})

    def plan(self, source: SizedSource) -> TrainPlan:
        """Buckets of image sizes."""
        parts = self.micro_batches if self.mixed_parts else 1
        sizes, seed = source.sizes, self.seed
        return TrainPlan(sizes, self.batch_size, self.augmentation, seed, max_buckets=self.buckets, parts=parts)
