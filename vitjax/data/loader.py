"""From a source and a plan to batches: read, transform, pad; in any number of processes, in the order of the plan."""

import gc
import multiprocessing
import os
import shutil
import threading
from collections.abc import Generator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import grain
import numpy as np
from absl import flags

from vitjax.data.errors import DataError
from vitjax.data.plan import Plan, StepPlan
from vitjax.data.source import NO_LABEL, Sample, Source
from vitjax.errors import FieldError
from vitjax.structs import Batch, Targets

# A batch of large images is 50 MB, so few are kept ready.
_READY_WITHOUT_WORKERS = 2
_READY_PER_WORKER = 1
# One is being read, one waits in the worker's queue, one in the trainer's; the trainer holds another.
_SHARED_PER_WORKER = 4
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

    Raises:
        DataError: more than `max_objects` objects in an image, or no image of a training step can be read.
        FieldError: the source has one for a record that can be read but is wrong; no other takes its place.
    """
    _check(plan, start_step, workers, host, hosts)
    stop = _ENDLESS if plan.length is None else plan.length
    if steps is not None:
        stop = min(stop, start_step + steps)
    todo = grain.MapDataset.range(start_step, max(stop, start_step))
    loaded = todo.map(_Load(source, plan, max_objects, host, hosts))
    if workers == 0:
        reading = grain.ReadOptions(num_threads=1, prefetch_buffer_size=_READY_WITHOUT_WORKERS)
        return _iterate(loaded.to_iter_dataset(reading))
    _require_shared_memory(plan, workers, hosts)
    # Grain reads absl flags, which nobody has parsed in a notebook, under pytest or behind another command line.
    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()
    reading = grain.ReadOptions(num_threads=1, prefetch_buffer_size=_READY_PER_WORKER)
    processes = grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=_READY_PER_WORKER)
    return _iterate(loaded.to_iter_dataset(reading).mp_prefetch(processes, worker_init_fn=_start_worker))


def load(source: Source, step: StepPlan, *, max_objects: int, host: int = 0, hosts: int = 1) -> Batch:
    """A host's rows of one step, as `batches` gives them.

    A row that cannot be read is noted in `broken`. In training the next row of the whole step that can be read takes
    its place, in evaluation nothing does. A row without an image is black, as large as the bucket, with record -1.

    Raises:
        DataError: more than `max_objects` objects in an image, or no image of a training step can be read.
        FieldError: the source has one for a record that can be read but is wrong; no other takes its place.
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
            maps: Any = np.full(batch.pixels.shape[:3], NO_LABEL, np.uint8)
            batch = replace(batch, label_maps=maps)
        _fill(batch, place, prepared, source)
    return batch


@dataclass(frozen=True)
class _Load:
    """What a worker process is sent: step -> batch."""

    source: Source
    plan: Plan
    max_objects: int
    host: int
    hosts: int

    def __call__(self, step: int) -> Batch:
        return load(self.source, self.plan(step), max_objects=self.max_objects, host=self.host, hosts=self.hosts)


def _iterate(ready: grain.IterDataset) -> Generator[Batch, None, None]:
    iterator = iter(ready)
    try:
        for batch in iterator:
            yield _plain(batch)
    finally:
        iterator.close()
        # Grain's iterators refer to each other and to the last batch, which would stay in shared memory for a while.
        del iterator
        gc.collect()


def _plain(batch: Batch) -> Batch:
    """Plain arrays: those from workers are a subclass that lives in shared memory; a plain view keeps that alive."""
    targets = {name: np.asarray(leaf) for name, leaf in vars(batch.targets).items()}
    arrays = {name: leaf for name, leaf in vars(batch).items() if name != "targets" and leaf is not None}
    return _assemble({name: np.asarray(leaf) for name, leaf in arrays.items()}, targets)


def _assemble(arrays: dict[str, Any], targets: dict[str, Any]) -> Batch:
    """A batch of NumPy arrays; its fields are declared as JAX arrays, which they become when they are placed."""
    return Batch(**arrays, targets=Targets(**targets))


class _Prepared(NamedTuple):
    record: int
    original_size: tuple[int, ...]
    sample: Sample


def _prepare(source: Source, step: StepPlan, row: int) -> _Prepared:
    record = int(step.records[row])
    sample = source[record]
    return _Prepared(record, sample.image.shape[:2], step.cuts[row].apply(sample, source.name(record)))


def _next_readable(source: Source, step: StepPlan, row: int, first: DataError) -> _Prepared:
    count = len(step.records)
    for other in (*range(row + 1, count), *range(row)):
        try:
            return _prepare(source, step, other)
        except DataError:
            continue
    raise DataError(f"none of the {count} images of a training step can be read; the first: {first}") from first


def _fill(batch: Batch, place: int, prepared: _Prepared, source: Source) -> None:
    """Writes a sample into its place in the batch, boxes as cxcywh of the sample's own size."""
    record, original_size, sample = prepared
    height, width = sample.image.shape[:2]
    objects, limit = len(sample.boxes), batch.targets.valid.shape[1]
    if objects > limit:
        wish = f"set max_objects to {max(objects, source.max_objects)} or more"
        raise DataError(f"{source.name(record)} has {objects} objects, but max_objects is {limit}; {wish}")
    batch.pixels[place, :height, :width] = sample.image
    if sample.label_map is not None and batch.label_maps is not None:
        batch.label_maps[place, :height, :width] = sample.label_map
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
    arrays = {
        "pixels": np.zeros((rows, *bucket, 3), np.uint8),
        "sizes": sizes,
        "records": np.full(rows, -1, np.int32),
        "original_sizes": sizes.copy(),
        "broken": np.full(rows, -1, np.int32),
    }
    targets = {
        "boxes": np.tile(np.array([0.5, 0.5, 1.0, 1.0], np.float32), (rows, max_objects, 1)),
        "labels": np.zeros((rows, max_objects), np.int32),
        "valid": np.zeros((rows, max_objects), bool),
    }
    return _assemble(arrays, targets)


def _start_worker(worker: int, workers: int) -> None:
    """Runs in every worker process before it reads: one thread each, and no life after the parent's."""
    cv2.setNumThreads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Ends this process when its parent is gone; else it outlives a parent that was killed, and keeps shared memory.

    The kernel's own death signal would also come when only the thread ends that started the worker.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _require_shared_memory(plan: Plan, workers: int, hosts: int) -> None:
    """Workers hand batches over in shared memory, and a process that writes past its end dies without a word."""
    if not _SHARED_MEMORY.is_dir():
        return
    pixels = max(height * width for height, width in plan.buckets) * plan.batch_size // hosts
    # Three bytes of colour, and one of label where the source has maps.
    needed, free = 4 * pixels * workers * _SHARED_PER_WORKER, shutil.disk_usage(_SHARED_MEMORY).free
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
