"""From a source and a plan to batches: read, transform, pad; in any number of processes, in the order of the plan."""

import shutil
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vitjax.batch import Batch, Targets
from vitjax.data.errors import DataError
from vitjax.data.plan import Finishing, Plan, StepPlan
from vitjax.data.source import NO_LABEL, Sample, Source
from vitjax.errors import FieldError


class NoneReadable(DataError):
    """No image of a training step can be read."""


# Training steps after one without a readable image that are tried in its place.
_STEPS_TRIED = 8
# Batches that a thread or a worker process reads ahead; one of large images is 50 MB.
_READY = 2
# Those that the trainer still holds: the one of this step, the one before it, and the next.
_HELD = 3
_SHARED_MEMORY = Path("/dev/shm")
_ENDLESS = 2**31 - 1


def batches(
    source: Source,
    plan: Plan,
    *,
    max_objects: int,
    start_step: int = 0,
    steps: int | None = None,
    workers: int = 0,
    host: int = 0,
    hosts: int = 1,
) -> Generator[Batch, None, None]:
    """The batches of steps `start_step`, `start_step` + 1, ... of the plan: `steps` of them, or all there are.

    What a batch holds depends on the source, the plan and the step alone. Each host gets its block of the rows, and the
    blocks of all hosts in order are the batch of one host. `workers` processes read ahead; without any, a thread does.

    Of a training step of which no image can be read the next one that has one takes the place.

    Raises:
        DataError: more than `max_objects` objects in an image, or no image of several training steps can be read.
        VitjaxError: the source says so of a record that can be read but is wrong; no other takes its place.
        WorkerDied: a process that reads was ended.
        FieldError: the steps, workers or hosts are none that can be.
    """
    _check(plan, start_step, workers, host, hosts)
    stop = _ENDLESS if plan.length is None else plan.length
    if steps is not None:
        stop = min(stop, start_step + steps)
    if workers:
        _require_shared_memory(plan, max_objects, getattr(source, "has_masks", False), workers, hosts)
    return _iterate(_Load(source, plan, max_objects, host, hosts), range(start_step, stop), workers)


def load(source: Source, step: StepPlan, *, max_objects: int, host: int = 0, hosts: int = 1) -> Batch:
    """A host's rows of one step, as `batches` gives them.

    A row that cannot be read is noted in `broken`. In training the next row of the whole step that can be read takes
    its place, in evaluation nothing does. A row without an image is black, as large as the bucket, with record -1.

    Raises:
        NoneReadable: no image of a training step can be read.
        DataError: more than `max_objects` objects in an image.
        VitjaxError: the source says so of a record that can be read but is wrong; no other takes its place.
    """
    share = len(step.records) // hosts
    rows = range(host * share, (host + 1) * share)
    batch = _empty_batch(share, step.bucket, max_objects)
    for place, row in enumerate(rows):
        if step.records[row] < 0:
            continue
        try:
            prepared = _prepare(source, step, row)
        except DataError as error:
            batch.broken[place] = step.records[row]
            if not step.replaces:
                continue
            prepared = _next_readable(source, step, row, error)
        if prepared.sample.label_map is not None and batch.label_maps is None:
            batch = replace(batch, label_maps=np.full(batch.pixels.shape[:3], NO_LABEL, np.uint8))
        if prepared.broken is not None:
            batch.broken[place] = prepared.broken
        if prepared.sample.masks is not None and batch.masks is None:
            batch = replace(batch, masks=np.zeros((*batch.pixels.shape[:3], -(-max_objects // 8)), np.uint8))
        _fill(batch, place, prepared, source)
    return batch if hosts == 1 or (batch.records >= 0).any() else _with_planes(batch, source, step, max_objects)


def _with_planes(batch: Batch, source: Source, step: StepPlan, max_objects: int) -> Batch:
    """A host's batch of no image with label maps and masks where those of other hosts have them."""
    for row in np.flatnonzero(step.records >= 0).tolist():
        with suppress(DataError):
            sample, pixels = _prepare(source, step, row).sample, batch.pixels.shape[:3]
            maps = None if sample.label_map is None else np.full(pixels, NO_LABEL, np.uint8)
            masks = None if sample.masks is None else np.zeros((*pixels, -(-max_objects // 8)), np.uint8)
            return replace(batch, label_maps=maps, masks=masks)
    return batch


@dataclass(frozen=True)
class _Load:
    """Step -> batch; what a worker process is sent."""

    source: Source
    plan: Plan
    max_objects: int
    host: int
    hosts: int

    def __call__(self, step: int) -> Batch:
        try:
            return self._load(step)
        except NoneReadable as error:
            first = error
        for other in range(step + 1, step + 1 + _STEPS_TRIED):
            with suppress(NoneReadable):
                batch = self._load(other)
                records = self.plan(step).records.reshape(self.hosts, -1)[self.host]
                return replace(batch, broken=np.asarray(records, np.int32))
        raise DataError(f"nor can any of the {_STEPS_TRIED} steps after it: {first}") from first

    def _load(self, step: int) -> Batch:
        return load(self.source, self.plan(step), max_objects=self.max_objects, host=self.host, hosts=self.hosts)


def _iterate(loading: _Load, steps: range, workers: int) -> Generator[Batch, None, None]:
    with _reading(loading, workers) as ask:
        waiting: deque[Callable[[], Batch]] = deque()
        for step in steps:
            waiting.append(ask(step))
            if len(waiting) > _READY * max(workers, 1):
                yield waiting.popleft()()
        while waiting:
            yield waiting.popleft()()


def _reading(loading: _Load, workers: int) -> AbstractContextManager[Callable[[int], Callable[[], Batch]]]:
    """What, asked for a step, begins to read its batch; the answer waits for it."""
    if not workers:
        return _thread(loading)
    from vitjax.data.workers import processes  # which a run without them does not need

    return processes(loading, workers, _SHARED_MEMORY if _SHARED_MEMORY.is_dir() else None)


@contextmanager
def _thread(loading: _Load) -> Iterator[Callable[[int], Callable[[], Batch]]]:
    pool = ThreadPoolExecutor(1)
    try:
        yield lambda step: pool.submit(loading, step).result
    finally:
        pool.shutdown(cancel_futures=True)


class _Prepared(NamedTuple):
    record: int
    original_size: tuple[int, ...]
    sample: Sample
    broken: int | None = None  # a record that should be a part of the sample


def _prepare(source: Source, step: StepPlan, row: int) -> _Prepared:
    record, cut = int(step.records[row]), step.cuts[row]
    whole = source[record]
    sample, broken = cut.apply(whole, source.name(record)), None
    if isinstance(cut, Finishing):
        sample, broken = cut.finish(sample, source)
    return _Prepared(record, whole.image.shape[:2], sample, broken)


def _next_readable(source: Source, step: StepPlan, row: int, first: DataError) -> _Prepared:
    count = len(step.records)
    for other in (*range(row + 1, count), *range(row)):
        try:
            return _prepare(source, step, other)
        except DataError:
            continue
    raise NoneReadable(f"none of the {count} images of a training step can be read; the first: {first}") from first


def _fill(batch: Batch, place: int, prepared: _Prepared, source: Source) -> None:
    """Writes a sample into its place in the batch, boxes as cxcywh of the sample's own size."""
    record, original_size, sample, _ = prepared
    height, width = sample.image.shape[:2]
    objects, limit = len(sample.boxes), batch.targets.valid.shape[1]
    if objects > limit:
        wish = f"set max_objects to {max(objects, source.max_objects)} or more"
        raise DataError(f"{source.name(record)} has {objects} objects, but max_objects is {limit}; {wish}")
    batch.pixels[place, :height, :width] = sample.image
    if sample.label_map is not None and batch.label_maps is not None:
        batch.label_maps[place, :height, :width] = sample.label_map
    if sample.masks is not None and batch.masks is not None:
        batch.masks[place, :height, :width, : sample.masks.shape[2]] = sample.masks
    batch.sizes[place] = height, width
    batch.records[place] = record
    batch.original_sizes[place] = original_size
    low, high = sample.boxes[:, :2], sample.boxes[:, 2:]
    boxes = np.concatenate([(low + high) / 2, high - low], 1) / np.array([width, height, width, height], np.float32)
    batch.targets.boxes[place, :objects] = boxes
    batch.targets.labels[place, :objects] = sample.labels
    batch.targets.valid[place, :objects] = True


def _empty_batch(rows: int, bucket: tuple[int, int], max_objects: int) -> Batch:
    """Black images as large as the bucket: a model may divide by the size of an image, and attend to its pixels."""
    sizes = np.tile(np.array(bucket, np.int32), (rows, 1))
    targets = Targets(
        boxes=np.tile(np.array([0.5, 0.5, 1.0, 1.0], np.float32), (rows, max_objects, 1)),
        labels=np.zeros((rows, max_objects), np.int32),
        valid=np.zeros((rows, max_objects), bool),
    )
    nothing = np.full(rows, -1, np.int32)
    return Batch(np.zeros((rows, *bucket, 3), np.uint8), sizes, targets, nothing, sizes.copy(), nothing.copy())


def _require_shared_memory(plan: Plan, max_objects: int, masks: bool, workers: int, hosts: int) -> None:
    if not _SHARED_MEMORY.is_dir():
        return
    pixels = max(height * width for height, width in plan.buckets) * plan.batch_size // hosts
    # Three bytes of colour, one of label where the source has maps, and a bit for each object where it has masks.
    each = 4 + (-(-max_objects // 8) if masks else 0)
    needed, free = each * pixels * (_READY * workers + _HELD), shutil.disk_usage(_SHARED_MEMORY).free
    if free < needed:
        raise DataError(
            f"{workers} workers need up to {needed / 1e6:.0f} MB of shared memory, but {_SHARED_MEMORY} has only "
            f"{free / 1e6:.0f} MB free; use fewer workers, or start the container with more (docker run --shm-size)"
        )


def _check(plan: Plan, start_step: int, workers: int, host: int, hosts: int) -> None:
    if start_step < 0 or workers < 0:
        raise FieldError(f"start_step and workers are at least 0, got {start_step} and {workers}")
    if not 0 <= host < hosts:
        raise FieldError(f"host is in [0, hosts), got host {host} of {hosts}")
    if plan.batch_size % hosts:
        raise FieldError(f"the batch is shared among hosts evenly; got batch_size {plan.batch_size} for {hosts} hosts")
