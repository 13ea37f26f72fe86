"""What a run keeps of what went wrong on its way: images that cannot be read, and steps that are not finite."""

import json
import math
import sys
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from vitjax.checkpoints.paths import flatten
from vitjax.checkpoints.store import Store
from vitjax.checkpoints.writing import AppendedFile
from vitjax.data.errors import DataError, in_one_line
from vitjax.data.folder import in_threads
from vitjax.data.source import Source
from vitjax.errors import VitjaxError
from vitjax.placement import place_batch
from vitjax.structs import Batch
from vitjax.training.prepare import Prepared
from vitjax.training.report import plain
from vitjax.training.state import TrainState
from vitjax.training.watch import NOT_FINITE, UNREADABLE, Faulty

_MOST_STEPS = 200  # that are made again to see what led to a fault
_MOST_LOOKS = 3  # at steps that are left out, for each of which a program is compiled
_MOST_NAMES = 5  # parameters that are named


class TooManyUnreadable(DataError):
    """More of the training images cannot be read than the experiment allows."""


def note_unreadable(
    workdir: Path, source: Source, records: Sequence[int], step: int, *, missing: int, share: float
) -> None:
    """Says of each record once what it is and why it cannot be read, also in the run folder.

    Raises:
        TooManyUnreadable: that makes `missing` of the source's records, and more than their share.
    """
    for record in records:
        name = in_one_line(source.name(record))
        why = in_one_line(_why(source, record) or "it can be read at another try")
        print(f"warning: {name} cannot be read, and another image takes its place: {why}", file=sys.stderr, flush=True)
        _append(workdir / UNREADABLE, {"image": name, "split": "train", "step": step, "why": why})
    require_readable(workdir, source, missing, share)


def require_readable(workdir: Path, source: Source, missing: int, share: float) -> None:
    """Nothing, if at most their share of the source's records cannot be read.

    Raises:
        TooManyUnreadable: `missing` are more.
    """
    most = math.ceil(share * len(source))
    if missing > most:
        raise TooManyUnreadable(
            f"{missing} of {len(source):,} training images cannot be read, and max_unreadable {share:g} allows {most}; "
            f"{workdir / UNREADABLE} names them. Replace the files, or raise --max-unreadable."
        )


def note_unanswered(workdir: Path, names: Sequence[str], step: int) -> None:
    """Says of each image of an evaluation once that it cannot be read, also in the run folder."""
    known = _names(workdir, "val")
    for name in map(in_one_line, names):
        if name not in known:
            told = "cannot be read in the evaluation, and counts as one on which nothing is found"
            print(f"warning: {name} {told}", file=sys.stderr, flush=True)
            _append(workdir / UNREADABLE, {"image": name, "split": "val", "step": step})


def unreadable_records(workdir: Path, source: Source) -> set[int]:
    """The records that earlier starts of a run could not read, and that still cannot be."""
    names = _names(workdir, "train")
    records = [record for record in range(len(source)) if in_one_line(source.name(record)) in names] if names else []
    return {record for record, why in zip(records, in_threads(partial(_why, source), records), strict=True) if why}


def summary(workdir: Path) -> dict[str, int]:
    """How many images could not be read and how many steps were left out, where there were any."""
    found: dict[str, set[Any]] = {
        "unreadable_training_images": _names(workdir, "train"),
        "unreadable_evaluation_images": _names(workdir, "val"),
        "skipped_steps": {entry.get("step") for entry in _entries(workdir / NOT_FINITE) if entry.get("skipped")},
    }
    return {name: len(each) for name, each in found.items() if each}


def _names(workdir: Path, split: str) -> set[str]:
    return {str(entry.get("image")) for entry in _entries(workdir / UNREADABLE) if entry.get("split") == split}


def explained(
    run: Prepared,
    store: Store,
    workdir: Path,
    faulty: Faulty,
    state: TrainState,
    loader: Callable[[int], Iterable[Sequence[Batch]]],
) -> str:
    """Writes what is known of a step that is not finite; gives a sentence that says where, and from where to go on.

    The step is made again, without an update. Where such steps are not left out the weights before it are lost, and
    come from the last checkpoint and the steps since then, if these are few; `state` is then used up.
    """
    kept, weights = store.latest_step(), int(state.step) if _is_finite(state.trainable) else faulty.step - 1
    looked = sum("part" in entry for entry in _entries(workdir / NOT_FINITE))
    try:
        if looked >= _MOST_LOOKS and run.experiment.skip_non_finite:
            raise VitjaxError(f"{looked} steps before it were")
        if not _is_finite(state.trainable):
            state, weights = _before(run, store, faulty.step, state, loader)
        found = _look(run, state, faulty)
    except Exception as error:  # what is wrong must not be hidden by what looks into it
        found = {"module": None, "not_looked_into": in_one_line(str(error))}
    entry = {"step": faulty.step, "image_ids": faulty.image_ids, "weights_of_step": weights}
    terms = {name: value if math.isfinite(value) else str(value) for name, value in faulty.metrics.items()}
    entry |= {"skipped": faulty.skipped, "terms": terms, **found}
    _append(workdir / NOT_FINITE, {**entry, "last_checkpoint": kept})
    if faulty.skipped:
        print(f"warning: step {faulty.step} is not finite and changes nothing", file=sys.stderr, flush=True)
    goes_on = f"the same command goes on from step {kept:,}" if kept else "the same command begins again"
    return f"{workdir / NOT_FINITE} has its terms and the first module that is not finite; {goes_on}."


def _before(
    run: Prepared, store: Store, step: int, lost: TrainState, loader: Callable[[int], Iterable[Sequence[Batch]]]
) -> tuple[TrainState, int]:
    """The state before a step, and its own step: a smaller one where it would take too many steps to get there."""
    for leaf in jax.tree.leaves(lost):
        leaf.delete()  # there may be no room for two
    start, state = (0, replace(run).state) if store.is_empty else store.restore_latest(run.shapes)
    if step - 1 - start > _MOST_STEPS:
        return state, start
    for _, parts in zip(range(start, step - 1), loader(start), strict=False):
        state, _metrics = run.train_step(state, [place_batch(part, run.mesh) for part in parts])
    return state, step - 1


def _look(run: Prepared, state: TrainState, faulty: Faulty) -> dict[str, Any]:
    """The first module whose answer is not finite, and the first parameters whose gradient is not."""
    objective, optimizer = run.experiment.objective(run.mesh), run.experiment.optimizer
    key = jax.random.fold_in(state.key, faulty.step - 1)

    for place, part in enumerate(faulty.parts):
        mine = key if len(faulty.parts) == 1 else jax.random.fold_in(key, place)

        def loss(trainable: Any, batch: Batch, key: jax.Array = mine) -> Any:
            variables = {"params": optimizer.merge(trainable, state.frozen), **state.constants}
            return objective.total(objective.evaluate(variables, batch, key).terms)

        module, gradients = watched(loss, state.trainable, place_batch(part, run.mesh))
        bad = [path for path, leaf in flatten(gradients).items() if not bool(jnp.isfinite(leaf).all())]
        if module is not None or bad:
            return {"module": module, "part": place, "gradients": bad[:_MOST_NAMES]}
    return {"module": None, "part": None, "gradients": []}


def watched(loss: Callable[..., Any], trainable: Any, *given: Any) -> tuple[str | None, Any]:
    """The path of the first module, as they end, whose answer has NaN or infinity; and the gradients of the loss.

    Minus infinity is what masks put on what does not exist, and is none.
    """
    names, wrong = list[str](), set[int]()

    def note(index: int, bad: Any) -> None:
        if bool(jnp.asarray(bad).any()):
            wrong.add(int(index))

    def look(call: Callable[..., Any], given: Any, options: Any, context: Any) -> Any:
        answer = call(*given, **options)
        leaves = [leaf for leaf in jax.tree.leaves(answer) if _is_float(leaf)]
        if context.method_name == "__call__" and leaves:
            bad = jnp.stack([(jnp.isnan(leaf) | (leaf == jnp.inf)).any() for leaf in leaves]).any()
            jax.debug.callback(note, len(names), bad)
            names.append("/".join(context.module.path) or type(context.module).__name__)
        return answer

    with nn.intercept_methods(look):
        gradients = jax.jit(jax.grad(loss))(trainable, *given)
    jax.block_until_ready(gradients)
    jax.effects_barrier()
    return (names[min(wrong)] if wrong else None), gradients


def _is_float(leaf: Any) -> bool:
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.floating)


def _is_finite(tree: Any) -> bool:
    return all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(tree) if _is_float(leaf))


def _why(source: Source, record: int) -> str:
    """Why a record cannot be read; "" where it can."""
    try:
        source[record]
    except (VitjaxError, OSError) as error:
        return str(error)
    return ""


def _append(path: Path, entry: dict[str, Any]) -> None:
    """Adds a line, if the disk takes it."""
    try:
        file = AppendedFile(path)
        file.append((json.dumps(plain(entry)) + "\n").encode())
        file.close()
    except OSError as error:
        print(f"warning: {path} cannot be written: {error.strerror}", file=sys.stderr, flush=True)


def _entries(path: Path) -> Collection[dict[str, Any]]:
    """The lines that can be read."""
    if not path.is_file():
        return []
    entries = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            continue
        entries += [entry] if isinstance(entry, dict) else []
    return entries
