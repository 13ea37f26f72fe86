"""The one module that owns Orbax: the checkpoints of a run, kept by age and by score, checked before and after reading.

A checkpoint is a folder named after its step. In it, `arrays` is Orbax's, and `record` is ours: shape, dtype and CRC-32
of every array by path, with metrics and notes. Orbax by itself cuts or pads an array to another shape and returns
flipped bits, both in silence.
"""

import math
import os
import shutil
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self, TypeVar

import jax
import numpy as np
import orbax.checkpoint as ocp
from flax import traverse_util

from vitjax.checkpoints.folders import (
    RECORD,
    CheckpointError,
    CorruptCheckpoint,
    Entry,
    is_complete,
    read_record,
    steps_in,
    write_record,
)
from vitjax.checkpoints.leaves import as_saved, by_path, described, like_leaf, recorded
from vitjax.checkpoints.quiet import without_stragglers
from vitjax.checkpoints.writing import NOT_WRITTEN, disk_fault
from vitjax.errors import FieldError
from vitjax.structs import PyTree

T = TypeVar("T")


class NoRoom(CheckpointError):
    """A checkpoint cannot be written, for the disk is full, read-only or broken; those before are as they were."""

    exit_code = NOT_WRITTEN


class Store:
    """The checkpoints in one folder: the latest `keep_last`, the best `keep_best` by `metric` and all of `keep`.

    What is linked there from elsewhere stays, too. A metric that is missing or not finite is never best. Nothing is
    written before the first `save`, which also clears away what a killed run left half written. Of several processes
    each has a store of its own, and only one may write into a folder. Use it in a `with` block: a process that ends
    without `close` loses the checkpoint it is writing.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        keep_last: int = 1,
        keep_best: int = 1,
        metric: str = "AP",
        keep: Collection[int] = (),
    ) -> None:
        """Raises a FieldError for a remote folder, and where nothing would be kept."""
        if keep_last < 1 or keep_best < 0:
            raise FieldError(f"keep_last must be at least 1 and keep_best at least 0; got {keep_last} and {keep_best}")
        if "://" in str(directory):
            raise FieldError(f"checkpoints need a local or mounted folder; got {directory}")
        self.directory = Path(directory).expanduser().absolute()
        self._keep_last, self._keep_best = keep_last, keep_best
        self._metric = metric
        self._keep = frozenset(keep)
        self._manager: ocp.CheckpointManager | None = None
        self._metrics_of_run: dict[int, dict[str, float]] = {}
        self._damaged: set[int] = set()

    def __enter__(self) -> Self:
        """The store itself."""
        return self

    def __exit__(self, *raised: object) -> None:
        """Closes, also when the block has raised."""
        self.close()

    def close(self) -> None:
        """Waits for what is being written and ends Orbax's threads. Raises as `wait` does."""
        manager, self._manager = self._manager, None
        if manager:
            with self._writing():
                manager.close()

    def wait(self) -> None:
        """Blocks until the last `save` is on disk.

        Raises:
            CheckpointError: it could not be written; earlier checkpoints are then as they were.
        """
        if self._manager:
            with self._writing():
                try:
                    self._manager.wait_until_finished()
                except Exception:
                    self._manager.reload()  # it has already struck off the steps that were to make room
                    raise

    def save(
        self, step: int, state: PyTree, *, metrics: Mapping[str, float] = {}, notes: Mapping[str, Any] = {}
    ) -> bool:
        """Copies the state and writes it in the background; its arrays may be donated at once. True where it is saved.

        A step that is already there is left alone. `notes` are anything JSON can hold.

        Raises:
            CheckpointError: a later step is there, or where this or the save before cannot be written.
        """
        step = int(step)
        self.wait()
        with self._writing():
            manager = self._writer()
            there = manager.all_steps()
            if step in there:
                return False
            if later := [other for other in there if other > step]:
                raise CheckpointError(
                    f"{self.directory} holds steps later than {step}, which is to be saved: {later}; "
                    "give another folder, or remove them to go on from here."
                )
            record, arrays = recorded(step, state, metrics, notes)
            self._metrics_of_run[step] = record.metrics
            args = ocp.args.Composite(arrays=ocp.args.PyTreeSave(arrays), record=ocp.args.JsonSave(record.to_json()))
            manager.save(step, args=args, force=True)
        return True

    def annotate(self, step: int, metrics: Mapping[str, float]) -> None:
        """Puts the scores of a saved step on its record, waiting for its write, and lets go what is no longer kept.

        Raises:
            CheckpointError: there is no such step, or the record cannot be written; it then is as it was.
        """
        self.wait()
        record = read_record(self.directory, step)
        scores = {name: float(value) for name, value in metrics.items()}
        with self._writing():
            write_record(self.directory, step, replace(record, metrics=scores))
            self._metrics_of_run[step] = scores
            manager = self._writer()
            there = manager.all_steps()
            for other in sorted(set(there) - self._kept(there)):
                manager.delete(other)

    @property
    def is_empty(self) -> bool:
        """Whether no step has a folder, complete or not: nothing was ever saved, or all of it was taken away."""
        self.wait()
        return not steps_in(self.directory)

    def steps(self) -> tuple[int, ...]:
        """The steps that are completely on disk, ascending; what is being written is waited for.

        Those that were found damaged are none of them.
        """
        self.wait()
        there = (step for step in steps_in(self.directory) if step not in self._damaged)
        return tuple(step for step in there if is_complete(self.directory, step))

    def latest_step(self) -> int | None:
        """The latest step, None where there is none."""
        return max(self.steps(), default=None)

    def best_step(self) -> int | None:
        """The step with the best metric, the later one of equals; None where no step has a finite one."""
        return max(self._ranked(self.steps())[-1:], default=None)

    def read_best(self, read: Callable[[int], T]) -> tuple[int, T]:
        """(step, what `read` makes of it) of the best step that is intact; where none has a score, of the latest.

        A step is known to be damaged when it is read: it is then passed over with a warning for the next best.

        Raises:
            CheckpointError: there is no step, or all are damaged; or as `read`.
        """
        steps = self.steps()
        best = self._ranked(steps)[::-1]
        return self._first_intact([*best, *(step for step in reversed(steps) if step not in best)], read)

    def metrics(self, step: int) -> dict[str, float]:
        """The metrics that were saved with the step."""
        self.wait()
        return read_record(self.directory, step).metrics

    def notes(self, step: int) -> dict[str, Any]:
        """The notes that were saved with the step."""
        self.wait()
        return read_record(self.directory, step).notes

    def holds(self, step: int, key: str) -> bool:
        """Whether the state of the step has an array at the path `key` or below it."""
        self.wait()
        return bool(read_record(self.directory, step).under(key))

    def restore(self, step: int, like: PyTree) -> PyTree:
        """The state of the step in the structure of `like`, every leaf as the one in `like`.

        A leaf of `like` is an array or jax.ShapeDtypeStruct, whose sharding says where the array goes, a NumPy array or
        a number.

        Raises:
            CheckpointError: `like` has other paths, shapes or dtypes, which are listed; or the machine lacks memory.
            CorruptCheckpoint: files are missing or damaged; damaged arrays are named.
        """
        return self.restore_subtree(step, "", like)

    def restore_latest(self, like: PyTree) -> tuple[int, PyTree]:
        """(step, state) of the latest checkpoint that is intact; warns of each that is not and is passed over.

        The next `save` renames those that were passed over to '<step>.damaged'. Raises as `restore` does.
        """
        self.wait()
        return self._first_intact(steps_in(self.directory)[::-1], lambda step: self.restore(step, like))

    def restore_subtree(self, step: int, key: str, like: PyTree | None = None) -> PyTree:
        """The part of the state at the path `key`, such as 'trainable' or 'optimizer/1/mu', in the structure of `like`.

        Without `like` nested dicts of NumPy arrays, in which fields and places in tuples are keys. Raises as `restore`.
        """
        self.wait()
        record, folder = read_record(self.directory, step), self.directory / str(step)
        entries = record.under(key)
        if not entries and key not in record.empty:
            names = sorted({path.split("/")[0] for path in record.entries})
            raise CheckpointError(f"{folder} holds no {key!r}; it holds {', '.join(names)}")
        if like is None:
            arrays = self._arrays(step, key, entries)
            leaves = {path: as_saved(arrays[path], entry) for path, entry in entries.items()}
            return leaves[""] if "" in leaves else traverse_util.unflatten_dict(leaves, sep="/")
        wanted = by_path(like)
        from vitjax.checkpoints.damage import differences

        if lines := differences(entries, {path: described(leaf) for path, leaf in wanted.items()}):
            within = f" at {key!r}" if key else ""
            raise CheckpointError("\n  ".join([f"{folder} does not fit what is asked for{within}:", *lines]))
        arrays = self._arrays(step, key, entries)
        found = (like_leaf(arrays[path], entries[path], leaf) for path, leaf in wanted.items())
        return jax.tree.unflatten(jax.tree.structure(like), found)

    def _first_intact(self, steps: Sequence[int], read: Callable[[int], T]) -> tuple[int, T]:
        for step in steps:
            try:
                return step, read(step)
            except CorruptCheckpoint as error:
                self._damaged.add(step)
                warnings.warn(f"passing over step {step}: {error}", stacklevel=3)
        raise CheckpointError(
            f"all checkpoints in {self.directory} are damaged: {sorted(self._damaged)}; put a copy of one there, or "
            "remove them to begin anew"
            if self._damaged
            else f"there is no checkpoint in {self.directory}"
        )

    def _arrays(self, step: int, key: str, entries: Mapping[str, Entry]) -> dict[str, np.ndarray]:
        from vitjax.checkpoints.damage import altered, unreadable

        folder = self.directory / str(step)
        names = {path: "/".join(part for part in (key, path) if part) for path in entries}
        item = {names[path]: 0 for path, entry in entries.items() if 0 not in entry.shape}
        host = ocp.RestoreArgs(restore_type=np.ndarray)
        args = ocp.args.PyTreeRestore(item, restore_args=dict.fromkeys(item, host), partial_restore=True)
        try:
            handler = ocp.PyTreeCheckpointHandler(**_alone())
            with without_stragglers(), ocp.Checkpointer(handler, **_alone()) as reader:
                read = reader.restore(folder / "arrays", args=args) if item else {}
            arrays = {
                path: read[names[path]] if names[path] in item else np.zeros(entry.shape, entry.dtype)
                for path, entry in entries.items()
            }
        except Exception as error:
            raise unreadable(folder, error) from error
        if damaged := [names[path] for path in altered(arrays, entries)]:
            raise CorruptCheckpoint(f"{folder} is damaged: not the bytes that were saved in {', '.join(damaged)}")
        return arrays

    def _ranked(self, steps: Sequence[int]) -> list[int]:
        scores = {step: self._score(step) for step in steps}
        return sorted((step for step in steps if math.isfinite(scores[step])), key=lambda step: (scores[step], step))

    def _score(self, step: int) -> float:
        try:
            known = self._metrics_of_run
            metrics = known[step] if step in known else read_record(self.directory, step).metrics
        except CorruptCheckpoint:
            return math.nan
        return metrics.get(self._metric, math.nan)

    def _kept(self, steps: Sequence[int]) -> set[int]:
        best = self._ranked(steps)[-self._keep_best :] if self._keep_best else []
        linked = (step for step in steps if (self.directory / str(step)).is_symlink())  # those are the user's
        return {*sorted(steps)[-self._keep_last :], *best, *self._keep.intersection(steps), *linked}

    def _writer(self) -> ocp.CheckpointManager:
        """Orbax's manager, of a folder in which every step can be read as far as is known."""
        if self._manager is None:
            there = steps_in(self.directory, whatever=True)
            self._damaged |= {step for step in there if not is_complete(self.directory, step)}
            from vitjax.checkpoints.damage import flush_files

            self._set_damaged_aside()
            self.directory.mkdir(parents=True, exist_ok=True)
            policy, alone = {"preservation_policy": _Retention(self._kept), "cleanup_tmp_directories": True}, _alone()
            options = ocp.CheckpointManagerOptions(create=False, **policy, **alone)
            arrays, record = ocp.PyTreeCheckpointHandler(**alone), ocp.JsonCheckpointHandler(RECORD.name, **alone)
            # The last that Orbax asks: until all of a checkpoint is on the disk, those before it stay.
            record.finalize = lambda folder: flush_files(Path(folder).parent)  # type: ignore[method-assign]
            handlers = {"arrays": arrays, "record": record}
            self._manager = ocp.CheckpointManager(self.directory, options=options, item_handlers=handlers)
        elif self._damaged:
            self._set_damaged_aside()
            self._manager.reload()
        return self._manager

    def _set_damaged_aside(self) -> None:
        """Takes them out of the way: Orbax would count them as the latest, and delete good ones for them."""
        from vitjax.checkpoints.damage import set_aside

        set_aside(self.directory, self._damaged)
        self._damaged = set()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            with without_stragglers():
                yield
        except CheckpointError:
            raise
        except Exception as error:
            fault = disk_fault(error)
            kind = CheckpointError if fault is None else NoRoom
            for part in self.directory.glob("*.orbax-checkpoint-tmp*"):  # which would take the room of the next
                shutil.rmtree(part, ignore_errors=True)
            raise kind(f"a checkpoint cannot be written to {self.directory}: {fault or error}") from error


def _alone() -> dict[str, Any]:
    """Orbax's options for a process that reads and writes by itself, whatever others there are."""
    me = jax.process_index()
    alone = () if jax.process_count() == 1 else (me, {me}, f"host_{me}")
    return {"multiprocessing_options": ocp.options.MultiprocessingOptions(*alone)}


@dataclass(frozen=True)
class _Retention:
    """Orbax's question which steps to keep, passed on."""

    kept: Callable[[Sequence[int]], set[int]]

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        kept = self.kept([checkpoint.step for checkpoint in checkpoints])
        return [checkpoint.step in kept for checkpoint in checkpoints]
