"""Plans of one size, for labelled images: every image becomes a square, so nothing need be known before it is decoded.

What is random in a crop is drawn from (seed, epoch, place in the epoch): as with the other plans, whoever asks gets the
same answer.
"""

import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int, UInt8

from vitjax.data.crops import CenterCrop, RandomCrop
from vitjax.data.errors import DataError
from vitjax.data.plan import StepPlan, require_positive, shuffled
from vitjax.data.source import Sample
from vitjax.errors import FieldError

# Whoever reads ahead is in the next epoch while another is still in this one.
_EPOCHS_KEPT = 2


@dataclass(frozen=True)
class CropCut:
    """One image's crop; with `seed` a random one."""

    crop: RandomCrop | CenterCrop
    seed: tuple[int, ...] = ()

    def apply(self, sample: Sample, name: str) -> Sample:
        """The crop of the image; the object of a labelled image is all of it again."""
        del name
        if isinstance(self.crop, RandomCrop):
            return _cropped(sample, self.crop(sample.image, np.random.default_rng(self.seed)))
        return _cropped(sample, self.crop(sample.image))


@dataclass(frozen=True)
class RandomCuts:
    """The crops of a training step, which begins at a place of an epoch."""

    crop: RandomCrop
    seed: int
    epoch: int
    first: int

    def __getitem__(self, row: int) -> CropCut:
        """The crop of a row."""
        return CropCut(self.crop, (self.seed, self.epoch, self.first + row))


@dataclass(frozen=True)
class CenterCuts:
    """The crops of an evaluation step, all alike."""

    crop: CenterCrop

    def __getitem__(self, row: int) -> CropCut:
        """The crop of a row."""
        return CropCut(self.crop)


@dataclass(frozen=True, eq=False)
class CropTrainPlan:
    """An endless plan for training: every epoch has each of the records once, in an order and with crops of its own.

    What is left when the records do not divide by the batch size is dropped, differently in every epoch; fewer records
    than one batch are repeated, each time cut differently, until it is full.
    """

    records: int
    batch_size: int
    crop: RandomCrop
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuses an empty data set and numbers that make no plan."""
        if self.records == 0:
            raise DataError("there are no images to train on; name a split that has some")
        require_positive(batch_size=self.batch_size)
        if self.seed < 0:
            raise FieldError(f"CropTrainPlan.seed is at least 0, got {self.seed}")

    def __reduce__(self) -> tuple:
        """Pickles the fields only: a worker process makes its own epochs, and they are equal."""
        return CropTrainPlan, (self.records, self.batch_size, self.crop, self.seed)

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
        records = self._order(epoch)[first : first + self.batch_size]
        return StepPlan(records, RandomCuts(self.crop, self.seed, epoch, first), self.buckets[0], replaces=True)

    @functools.cached_property
    def _order(self) -> Callable[[int], Int[np.ndarray, " slots"]]:
        return functools.lru_cache(maxsize=_EPOCHS_KEPT)(self._shuffle)

    def _shuffle(self, epoch: int) -> Int[np.ndarray, " slots"]:
        rng = np.random.default_rng([self.seed, epoch])
        return shuffled(rng, self.records, self.steps_per_epoch * self.batch_size)


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
        return StepPlan(records, CenterCuts(self.crop), self.buckets[0], replaces=False)


def _cropped(sample: Sample, image: UInt8[np.ndarray, "size size 3"]) -> Sample:
    height, width = image.shape[:2]
    whole = np.array([[0, 0, width, height]], np.float32)
    return dataclasses.replace(sample, image=image, boxes=np.repeat(whole, len(sample.labels), axis=0))
