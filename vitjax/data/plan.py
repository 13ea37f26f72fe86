"""Which images make up each step, how each is cut and resized, and the bucket they are padded to.

A plan is arithmetic on (seed, step) and the image sizes: it decodes nothing, and whoever asks gets the same answer.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int

from vitjax.data.buckets import fit_ladder, smallest_holding, training_ladder
from vitjax.data.errors import DataError, require_positive
from vitjax.data.geometry import Geometries
from vitjax.data.source import Sample, Source
from vitjax.data.transforms import Augmentation, Resize, draw
from vitjax.errors import FieldError

# Whoever reads ahead is in the next epoch while another is still in this one.
EPOCHS_KEPT = 2


@runtime_checkable
class Cut(Protocol):
    """What is done to one sample on its way into a batch, with everything random in it drawn."""

    def apply(self, sample: Sample, name: str) -> Sample:
        """The sample as the batch has it; `name` is for errors.

        Raises:
            DataError: the sample is not what the cut was made for.
        """


@runtime_checkable
class Cuts(Protocol):
    """The cuts of all rows of a step."""

    def __getitem__(self, row: int) -> Cut:
        """The cut of a row."""


@runtime_checkable
class Finishing(Cut, Protocol):
    """A cut that is not all: further records may be read for it, and something is done to the whole."""

    def finish(self, sample: Sample, source: Source) -> tuple[Sample, int | None]:
        """The sample as the batch has it from the cut one, and a further record that could not be read, if any.

        Raises:
            FieldError: a user's own transform gives what cannot be.
        """


@dataclass(frozen=True)
class StepPlan:
    """The global batch of one step: a record (-1: none, the row only fills the batch up) and a cut for every row.

    `bucket` is the (height, width) that holds every row. `replaces` says what becomes of a row that cannot be read:
    another row of the step takes its place (training), or nothing does (evaluation).
    """

    records: Int[np.ndarray, " batch"]
    cuts: Cuts
    bucket: tuple[int, int]
    replaces: bool


@runtime_checkable
class Plan(Protocol):
    """What every plan answers."""

    @property
    def batch_size(self) -> int:
        """The rows of every step, over all hosts together."""

    @property
    def length(self) -> int | None:
        """The number of steps there are; None is endless."""

    @property
    def buckets(self) -> tuple[tuple[int, int], ...]:
        """Every (height, width) that a step can have, small to large."""

    def __call__(self, step: int) -> StepPlan:
        """The plan of one step."""


@dataclass(frozen=True, eq=False)
class TrainPlan:
    """An endless plan for training: every epoch has each record once, in an order and with geometries of its own.

    What is left when the records do not divide by the batch size is dropped, differently in every epoch; fewer records
    than one batch are repeated, each time cut differently, until it is full. `sizes` is (height, width) of each record.

    With several `parts` the plan is of parts: each of them has a bucket of its own, and so many in a row are a step.
    With `weights` an epoch has as many images, and each comes as often as its share of all weights says.
    """

    sizes: Int[np.ndarray, "records 2"]
    batch_size: int
    augmentation: Augmentation
    seed: int = 0
    multiple: int = 32
    max_buckets: int = 12
    parts: int = 1
    weights: Float[np.ndarray, " records"] | None = None

    def __post_init__(self) -> None:
        """Refuses an empty data set and numbers that make no plan."""
        require_trainable(len(self.sizes), self.batch_size, self.seed)
        require_positive(multiple=self.multiple, max_buckets=self.max_buckets, parts=self.parts)
        _ = self.own

    @property
    def length(self) -> None:
        """None: training can go on for ever."""
        return None

    @property
    def images_in_one(self) -> int:
        """The most images of which one of a batch is made."""
        return self.augmentation.images_in_one

    @property
    def steps_per_epoch(self) -> int:
        """The steps that see every record once; at least 1."""
        return max(1, len(self.sizes) // self.batch_size)

    @functools.cached_property
    def own(self) -> Callable[..., Any] | None:
        """The transform of a user that the augmentation names; worker processes are sent it, and look up no names."""
        if self.augmentation.own is None:
            return None
        from vitjax.data.own_transform import found

        return found(self.augmentation.own)

    @functools.cached_property
    def ladder(self) -> Int[np.ndarray, "buckets 2"]:
        """The buckets as an array."""
        return training_ladder(self.sizes, self.augmentation, multiple=self.multiple, max_buckets=self.max_buckets)

    @property
    def buckets(self) -> tuple[tuple[int, int], ...]:
        """Every (height, width) that a step can have, small to large."""
        return _as_tuples(self.ladder)

    def __call__(self, part: int) -> StepPlan:
        """The plan of a part of a step, `part` // `parts`; both count on from epoch to epoch."""
        number, place = divmod(part, self.steps_per_epoch * self.parts)
        records, geometries, batches, rungs = _epoch(self, number)
        slots = batches[place]
        cuts: Cuts = geometries.take(slots)
        if self.augmentation.is_finished:
            from vitjax.data.finishing import FinishedCuts

            seed = (self.seed, number)
            cuts = FinishedCuts(geometries.take(slots), slots, records, self.sizes, self.augmentation, self.own, seed)
        return StepPlan(records[slots], cuts, self.buckets[rungs[place]], replaces=True)


@functools.lru_cache(EPOCHS_KEPT)
def _epoch(plan: TrainPlan, number: int) -> tuple[np.ndarray, Geometries, np.ndarray, np.ndarray]:
    """The record and the geometry of every slot, the slots of every step, and its bucket."""
    rng = np.random.default_rng([plan.seed, number])
    records = shuffled(rng, len(plan.sizes), plan.steps_per_epoch * plan.batch_size, plan.weights)
    geometries = draw(plan.augmentation, rng, plan.sizes[records])
    batches, rungs = deal(geometries.output, plan.ladder, plan.batch_size // plan.parts)
    order = rng.permutation(len(batches))
    return records, geometries, batches[order], rungs[order]


@dataclass(frozen=True, eq=False)
class EvaluationPlan:
    """Every record once, in batches of images that are padded alike; rows of record -1 fill up the last batch."""

    sizes: Int[np.ndarray, "records 2"]
    batch_size: int
    resize: Resize
    multiple: int = 32
    max_buckets: int = 12

    def __post_init__(self) -> None:
        """Refuses numbers that make no plan."""
        require_positive(batch_size=self.batch_size, multiple=self.multiple, max_buckets=self.max_buckets)

    def __len__(self) -> int:
        """The number of steps."""
        return -(-len(self.sizes) // self.batch_size)

    @property
    def length(self) -> int:
        """The number of steps."""
        return len(self)

    @property
    def buckets(self) -> tuple[tuple[int, int], ...]:
        """Every (height, width) that a step can have, small to large."""
        return _as_tuples(self._dealt[1]) if len(self) else ()

    def __call__(self, step: int) -> StepPlan:
        """The plan of a step, in [0, length)."""
        geometries, ladder, batches, rungs = self._dealt
        records = batches[step].astype(np.int32)
        # A filling row reads nothing: it carries the first record's geometry only to have one.
        return StepPlan(
            records, geometries.take(np.maximum(records, 0)), _as_tuples(ladder)[rungs[step]], replaces=False
        )

    @functools.cached_property
    def _dealt(self) -> tuple[Geometries, np.ndarray, np.ndarray, np.ndarray]:
        geometries = self.resize.geometries(self.sizes)
        sizes = geometries.output
        most = min(self.max_buckets, max(1, len(self) // 2))  # to compile a size takes longer than a padded batch
        ladder = fit_ladder(sizes, sizes.max(0), multiple=self.multiple, max_buckets=most)
        return geometries, ladder, *deal(sizes, ladder, self.batch_size)


def shuffled(
    rng: np.random.Generator, records: int, slots: int, weights: Float[np.ndarray, " records"] | None = None
) -> Int[np.ndarray, " slots"]:
    """As many records as there are slots, in random order; none comes again before all have come.

    With `weights` each comes slots * weight / sum of weights times, rounded up or down by chance.
    """
    if weights is not None:
        order = rng.permutation(records)
        ends = np.cumsum(weights[order]) / weights.sum() * slots
        passed = np.floor(np.append(ends[:-1], slots) + rng.random()).astype(int)  # systematic sampling
        return rng.permutation(np.repeat(order, np.diff(passed, prepend=0))).astype(np.int32)
    rounds = -(-slots // records)
    return np.concatenate([rng.permutation(records) for _ in range(rounds)])[:slots].astype(np.int32)


def deal(
    outputs: Int[np.ndarray, "images 2"], ladder: Int[np.ndarray, "buckets 2"], batch_size: int
) -> tuple[Int[np.ndarray, "steps batch"], Int[np.ndarray, " steps"]]:
    """Full batches of images (-1: none) that share a bucket, and the bucket of each.

    An image goes to the smallest bucket that holds it. What does not fill a batch there moves up to the next bucket
    that holds this one, and goes first there. The last bucket holds all, and only there can a batch be less than full.
    """
    rungs = smallest_holding(outputs, ladder)
    waiting = [np.flatnonzero(rungs == rung) for rung in range(len(ladder))]
    batches = []
    for rung in range(len(ladder)):
        images = waiting[rung]
        whole = len(images) // batch_size * batch_size
        rest = images[whole:]
        if len(rest) and rung + 1 < len(ladder):
            above = rung + 1 + int(smallest_holding(ladder[rung][None], ladder[rung + 1 :])[0])
            waiting[above] = np.concatenate([rest, waiting[above]])
        elif len(rest):
            filling = np.full(batch_size - len(rest), -1)
            images, whole = np.concatenate([images, filling]), whole + batch_size
        batches.append(images[:whole].reshape(-1, batch_size))
    dealt = np.concatenate(batches)
    # Images that moved up may still fit together into something smaller than where they ended.
    extent = np.where(dealt[..., None] >= 0, outputs[dealt], 0).max(1)
    return dealt, smallest_holding(extent, ladder)


def padding(outputs: Int[np.ndarray, "batch 2"], bucket: tuple[int, int]) -> float:
    """The fraction of a batch's pixels that are padding."""
    return 1.0 - float(outputs.astype(np.float64).prod(1).mean()) / (bucket[0] * bucket[1])


def require_trainable(records: int, batch_size: int, seed: int) -> None:
    """Nothing, if so many records can be trained on.

    Raises:
        DataError: there are none.
        FieldError: a number makes no plan.
    """
    if records == 0:
        raise DataError("there are no images to train on; name a split that has some")
    require_positive(batch_size=batch_size)
    if seed < 0:
        raise FieldError(f"seed is at least 0, got {seed}")


def _as_tuples(ladder: Int[np.ndarray, "buckets 2"]) -> tuple[tuple[int, int], ...]:
    return tuple((int(height), int(width)) for height, width in ladder)
