"""The one module that owns Orbax: the checkpoints of a run, kept by age and by score, checked before and after reading.

A checkpoint is a folder named after its step. In it, `arrays` is Orbax's, and `record` is ours: shape, dtype and CRC-32
of every array by path, with metrics and notes. Orbax by itself cuts or pads an array to another shape and returns
flipped bits, both in silence.
"""

import json
import math
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging as absl_logging
from flax import traverse_util
from jax.experimental import multihost_utils

from vitjax.checkpoints.leaves import as_saved, by_path, checksums, described, entries_of, like_leaf, on_host
from vitjax.checkpoints.record import Entry, Record, differences
from vitjax.structs import PyTree

RECORD = Path("record", "record.json")
LINES = 20  # of differences in one message


class CheckpointError(ValueError):
    """A checkpoint that is not there, does not fit or cannot be written; the message names folder and paths."""


class CorruptCheckpoint(CheckpointError):
    """A checkpoint whose files are damaged or incomplete."""


class Store:
    """The checkpoints in one folder: the latest `keep_last` and the best `keep_best` by `metric` stay.

    A metric that is missing or not finite is never best. Nothing is written before the first `save`, which also clears
    away what a killed run left half written. With several processes all of them make the same calls. Use it in a
    `with` block: a process that ends without `close` loses the checkpoint it is writing.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        keep_last: int = 1,
        keep_best: int = 1,
        metric: str = "AP",
        mode: Literal["max", "min"] = "max",
    ) -> None:
        """Raises a ValueError for a remote folder, and where nothing would be kept."""
        if keep_last < 1 or keep_best < 0:
            raise ValueError(f"keep_last must be at least 1 and keep_best at least 0; got {keep_last} and {keep_best}")
        if mode not in ("max", "min"):
            raise ValueError(f"mode is {mode!r}; it must be 'max' or 'min'")
        if "://" in str(directory):
            raise ValueError(f"checkpoints need a local or mounted folder; got {directory}")
        self.directory = Path(directory).expanduser().absolute()
        self._keep_last, self._keep_best = keep_last, keep_best
        self._metric, self._sign = metric, 1 if mode == "max" else -1
        self._manager: ocp.CheckpointManager | None = None
        self._metrics_of_run: dict[int, dict[str, float]] = {}
        self._damaged: set[int] = set()
        absl_logging.set_verbosity(absl_logging.WARNING)

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

        Raises: CheckpointError where it could not be written; earlier checkpoints are then as they were.
        """
        if self._manager:
            with self._writing():
                self._manager.wait_until_finished()

    def save(
        self,
        step: int,
        state: PyTree,
        *,
        metrics: Mapping[str, float] = {},
        notes: Mapping[str, Any] = {},
        force: bool = False,
    ) -> bool:
        """Copies the state and writes it in the background; its arrays may be donated at once. True where it is saved.

        A step that is already there is left alone, and saved anew with `force`. `notes` are anything JSON can hold.

        Raises: CheckpointError where a later step is there, or where this or the save before cannot be written.
        """
        step, manager = int(step), self._writer()
        if step in manager.all_steps():
            if not force:
                return False
            self.wait()
            manager.delete(step)
        if any(later > step for later in manager.all_steps()):
            raise CheckpointError(
                f"{self.directory} already holds step {manager.latest_step()}, later than step {step} that is to be "
                "saved; give another folder, or remove the later steps to go on from here."
            )
        with self._writing():
            leaves = by_path(state)
            arrays = on_host(leaves)
            record = Record(entries_of(leaves, arrays), {name: float(x) for name, x in metrics.items()}, dict(notes))
            args = ocp.args.Composite(
                arrays=ocp.args.PyTreeSave({path: array for path, array in arrays.items() if array.size}),
                record=ocp.args.JsonSave(record.to_json()),
            )
            self._metrics_of_run[step] = record.metrics
            manager.save(step, args=args, force=True)
        return True

    def steps(self) -> tuple[int, ...]:
        """The steps that are completely on disk, ascending; what is being written is waited for."""
        self.wait()
        return tuple(step for step in self._folders() if (self._folder(step) / RECORD).is_file())

    def latest_step(self) -> int | None:
        """The latest step, None where there is none."""
        return max(self.steps(), default=None)

    def best_step(self) -> int | None:
        """The step with the best metric, the later one of equals; None where no step has a finite one."""
        return max(self._ranked(self.steps())[-1:], default=None)

    def metrics(self, step: int) -> dict[str, float]:
        """The metrics that were saved with the step."""
        self.wait()
        return self._record(step).metrics

    def notes(self, step: int) -> dict[str, Any]:
        """The notes that were saved with the step."""
        self.wait()
        return self._record(step).notes

    def restore(self, step: int, like: PyTree) -> PyTree:
        """The state of the step in the structure of `like`, every leaf as the one in `like`.

        A leaf of `like` is an array or jax.ShapeDtypeStruct, whose sharding says where the array goes, a NumPy array or
        a number.

        Raises:
            CheckpointError: `like` has other paths, shapes or dtypes, which are listed.
            CorruptCheckpoint: files are missing or damaged; damaged arrays are named.
        """
        return self.restore_subtree(step, "", like)

    def restore_latest(self, like: PyTree) -> tuple[int, PyTree]:
        """(step, state) of the latest checkpoint that is intact; warns of each that is not and is passed over.

        The next `save` renames those that were passed over to '<step>.damaged'. Raises as `restore` does.
        """
        self.wait()
        for step in reversed(self._folders()):
            try:
                return step, self.restore(step, like)
            except CorruptCheckpoint as error:
                self._damaged.add(step)
                warnings.warn(f"passing over step {step}: {error}", stacklevel=2)
        raise CheckpointError(
            f"all checkpoints in {self.directory} are damaged: {sorted(self._damaged)}"
            if self._damaged
            else f"there is no checkpoint in {self.directory}"
        )

    def restore_subtree(self, step: int, key: str, like: PyTree | None = None) -> PyTree:
        """The part of the state at the path `key`, such as 'trainable' or 'optimizer/1/mu', in the structure of `like`.

        Without `like` nested dicts of NumPy arrays, in which fields and places in tuples are keys. Raises as `restore`.
        """
        self.wait()
        record = self._record(step)
        entries = record.under(key)
        if not entries:
            names = sorted({path.split("/")[0] for path in record.entries})
            raise CheckpointError(f"{self._folder(step)} holds no {key!r}; it holds {', '.join(names)}")
        if like is None:
            arrays = self._arrays(step, key, entries)
            leaves = {path: as_saved(arrays[path], entry) for path, entry in entries.items()}
            return leaves[""] if "" in leaves else traverse_util.unflatten_dict(leaves, sep="/")
        wanted = by_path(like)
        if lines := differences(entries, {path: described(leaf) for path, leaf in wanted.items()}):
            more = [f"... and {len(lines) - LINES} more"] if len(lines) > LINES else []
            within = f" at {key!r}" if key else ""
            raise CheckpointError(
                "\n  ".join([f"{self._folder(step)} does not fit what is asked for{within}:", *lines[:LINES], *more])
            )
        arrays = self._arrays(step, key, entries)
        found = (like_leaf(arrays[path], entries[path], leaf) for path, leaf in wanted.items())
        return jax.tree.unflatten(jax.tree.structure(like), found)

    def _folder(self, step: int) -> Path:
        return self.directory / str(step)

    def _folders(self) -> list[int]:
        if not self.directory.is_dir():
            return []
        return sorted(int(path.name) for path in self.directory.iterdir() if path.name.isdigit() and path.is_dir())

    def _record(self, step: int) -> Record:
        folder = self._folder(step)
        if not folder.is_dir():
            raise CheckpointError(f"there is no step {step} in {self.directory}; there are {self._folders()}")
        try:
            return Record.from_json(json.loads((folder / RECORD).read_text()))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CorruptCheckpoint(f"{folder / RECORD} cannot be read: {error}") from error

    def _arrays(self, step: int, key: str, entries: Mapping[str, Entry]) -> dict[str, np.ndarray]:
        folder = self._folder(step)
        names = {path: "/".join(part for part in (key, path) if part) for path in entries}
        item = {names[path]: 0 for path, entry in entries.items() if 0 not in entry.shape}
        host = ocp.RestoreArgs(restore_type=np.ndarray)
        args = ocp.args.PyTreeRestore(item, restore_args=dict.fromkeys(item, host), partial_restore=True)
        try:
            with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader:
                read = reader.restore(folder / "arrays", args=args) if item else {}
        except Exception as error:
            raise CorruptCheckpoint(f"{folder} cannot be read: {error}") from error
        # Orbax takes no arrays without elements; their record says all there is to say.
        arrays = {
            path: read[names[path]] if names[path] in read else np.zeros(entry.shape, entry.dtype)
            for path, entry in entries.items()
        }
        found = zip(entries.items(), checksums(arrays.values()), strict=True)
        damaged = [names[path] for (path, entry), crc32 in found if entry.crc32 not in (None, crc32)]
        if damaged:
            raise CorruptCheckpoint(f"{folder} is damaged: not the bytes that were saved in {', '.join(damaged)}")
        return arrays

    def _ranked(self, steps: Sequence[int]) -> list[int]:
        scores = {step: self._score(step) for step in steps}
        return sorted((step for step in steps if math.isfinite(scores[step])), key=lambda step: (scores[step], step))

    def _score(self, step: int) -> float:
        try:
            metrics = self._metrics_of_run[step] if step in self._metrics_of_run else self._record(step).metrics
        except CorruptCheckpoint:
            return math.nan
        return self._sign * metrics.get(self._metric, math.nan)

    def _kept(self, steps: Sequence[int]) -> set[int]:
        best = self._ranked(steps)[-self._keep_best :] if self._keep_best else []
        return {*sorted(steps)[-self._keep_last :], *best}

    def _writer(self) -> ocp.CheckpointManager:
        """Orbax's manager, over a folder in which every step can be read as far as is known."""
        if self._manager is None:
            self._damaged |= {step for step in self._folders() if not (self._folder(step) / RECORD).is_file()}
        if self._damaged:
            self._set_aside(self._damaged)
            self._damaged = set()
            if self._manager:
                self._manager.reload()
        if self._manager is None:
            options = ocp.CheckpointManagerOptions(
                preservation_policy=_Retention(self._kept), cleanup_tmp_directories=True
            )
            handlers = {"arrays": ocp.PyTreeCheckpointHandler(), "record": ocp.JsonCheckpointHandler(RECORD.name)}
            self._manager = ocp.CheckpointManager(self.directory, options=options, item_handlers=handlers)
        return self._manager

    def _set_aside(self, steps: set[int]) -> None:
        """Renames steps that cannot be read: Orbax would count them as the latest, and delete good ones for them."""
        if jax.process_index() == 0:
            for step in steps:
                taken = len(list(self.directory.glob(f"{step}.damaged*")))
                self._folder(step).rename(self.directory / f"{step}.damaged{taken or ''}")
        multihost_utils.sync_global_devices("vitjax damaged checkpoints renamed")

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except CheckpointError:
            raise
        except Exception as error:
            raise CheckpointError(f"a checkpoint cannot be written to {self.directory}: {error}") from error


@dataclass(frozen=True)
class _Retention:
    """Orbax's question which steps to keep, passed on."""

    kept: Callable[[Sequence[int]], set[int]]

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        kept = self.kept([checkpoint.step for checkpoint in checkpoints])
        return [checkpoint.step in kept for checkpoint in checkpoints]
