"""Plans of one size, for labelled images: every image becomes a square, so nothing need be known before it is decoded.

What is random in a crop is drawn from (seed, epoch, place in the epoch): as with the other plans, whoever asks gets the
same answer.
"""

import dataclasses
import functools
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float, Int, UInt8

from vitjax.data.crops import CenterCrop, RandomCrop
from vitjax.data.errors import require_positive
from vitjax.data.plan import EPOCHS_KEPT, StepPlan, require_trainable, shuffled
from vitjax.data.source import Sample


@dataclass(frozen=True)
class CropCut:
    """One image's crop; a random one is drawn from the seed."""

    crop: RandomCrop | CenterCrop
    seed: tuple[int, ...]

    def apply(self, sample: Sample, name: str) -> Sample:
        """The crop of the image; the object of a labelled image is all of it again."""
        del name
        if isinstance(self.crop, RandomCrop):
            return _cropped(sample, self.crop(sample.image, np.random.default_rng(self.seed)))
        return _cropped(sample, self.crop(sample.image))


@dataclass(frozen=True)
class CropCuts:
    """The crops of a step; random ones are drawn from the seed of the epoch and the place of a row in it."""

    crop: RandomCrop | CenterCrop
    seed: tuple[int, ...] = ()
    first: int = 0

    def __getitem__(self, row: int) -> CropCut:
        """The crop of a row."""
        return CropCut(self.crop, (*self.seed, self.first + row))


@dataclass(frozen=True, eq=False)
class CropTrainPlan:
    """An endless plan for training: every epoch has each of the records once, in an order and with crops of its own.

    What is left when the records do not divide by the batch size is dropped, differently in every epoch; fewer records
    than one batch are repeated, each time cut differently, until it is full. With `weights` an epoch has as many
    images, and each comes as often as its share of all weights says.
    """

    records: int
    batch_size: int
    crop: RandomCrop
    seed: int = 0
    weights: Float[np.ndarray, " records"] | None = None
    parts: ClassVar[int] = 1
    images_in_one: ClassVar[int] = 1

    def __post_init__(self) -> None:
        """Refuses an empty data set and numbers that make no plan."""
        require_trainable(self.records, self.batch_size, self.seed)

    @property
    def length(self) -> None:
        """None: training can go on for ever."""
        return None

    @property
    def steps_per_epoch(self) -> int:
        """The steps that see every record once; at least 1."""
        return max(1, self.records // self.batch_size)

    @property
    def buckets(self) -> tuple[tuple[int, int], ...]:
        """The one (height, width) of every step."""
        return ((self.crop.size, self.crop.size),)

    def __call__(self, step: int) -> StepPlan:
        """The plan of a step; steps count on from epoch to epoch."""
        epoch, place = divmod(step, self.steps_per_epoch)
        first = place * self.batch_size
        records = _order(self, epoch)[first : first + self.batch_size]
        return StepPlan(records, CropCuts(self.crop, (self.seed, epoch), first), self.buckets[0], replaces=True)


@dataclass(frozen=True)
class CropEvaluationPlan:
    """Every record once and in order; rows of record -1 fill up the last batch."""

    records: int
    batch_size: int
    crop: CenterCrop

    def __post_init__(self) -> None:
        """Refuses numbers that make no plan."""
        require_positive(batch_size=self.batch_size)

    @property
    def length(self) -> int:
        """The number of steps."""
        return -(-self.records // self.batch_size)

    @property
    def buckets(self) -> tuple[tuple[int, int], ...]:
        """The one (height, width) of every step."""
        return ((self.crop.size, self.crop.size),)

    def __call__(self, step: int) -> StepPlan:
        """The plan of a step, in [0, length)."""
        rows = np.arange(step * self.batch_size, (step + 1) * self.batch_size, dtype=np.int32)
        records = np.where(rows < self.records, rows, -1).astype(np.int32)
        return StepPlan(records, CropCuts(self.crop), self.buckets[0], replaces=False)


@functools.lru_cache(EPOCHS_KEPT)
def _order(plan: CropTrainPlan, epoch: int) -> Int[np.ndarray, " slots"]:
    rng = np.random.default_rng([plan.seed, epoch])
    return shuffled(rng, plan.records, plan.steps_per_epoch * plan.batch_size, plan.weights)


def _cropped(sample: Sample, image: UInt8[np.ndarray, "size size 3"]) -> Sample:
    height, width = image.shape[:2]
    whole = np.array([[0, 0, width, height]], np.float32)
    return dataclasses.replace(sample, image=image, boxes=np.repeat(whole, len(sample.labels), axis=0))
