"""What makes two starts the same run: the fields of their experiments, and what their labels mean."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vitjax.data.source import Classes
from vitjax.runs.serialize import CONFIG

# What may change from one start to the next: how long, what is kept, told and scored, how the work is divided, and what
# is asked of a start alone.
MAY_CHANGE = frozenset(
    "epochs least_steps workers log_every log_images loggers evaluate_every save_every keep_last keep_best best "
    "keep_before_drops patience micro_batches evaluation_batch_size workdir pretrained from_scratch max_unreadable "
    "skip_non_finite fsdp data.limits data.limits.pixels data.limits.objects data.limits.outside".split()
)
_START = ("init_from", "match_classes")  # only a run without a checkpoint reads them
_PLACES = ("data.root", "data.data_dir", "init_from")  # paths, which other words may name as well


def differences(before: Any, now: Any) -> list[str]:
    """One line for each field in which two experiments, as JSON, are not the same run.

    The source of the first weights may be left out when a run goes on, and is then what it was.
    """
    free = MAY_CHANGE if now["init_from"] else MAY_CHANGE.union(_START)
    return [line for line in changed_fields(before, now) if line.partition(":")[0] not in free]


def _is_moved(name: str, old: Any, new: Any) -> bool:
    """Whether a field has two names of one place, or data have moved: their old place is no longer there.

    Runs of earlier versions have paths as they were given, perhaps from another working directory.
    """
    if name not in _PLACES or not all(isinstance(path, str) and path for path in (old, new)):
        return False
    before, now = (Path(os.path.normpath(os.path.expanduser(path))) for path in (old, new))
    if not before.is_absolute():
        tail = tuple(part for part in before.parts if part != "..")
        return tail == now.parts[len(now.parts) - len(tail) :]
    return before == Path(os.path.abspath(now)) or (name != "init_from" and not before.exists())


def changed_fields(before: Any, now: Any) -> list[str]:
    """One line for each field in which two parts of experiments, as JSON, differ."""
    return [f"{name}: {old} there, {new} now" for name, old, new in _differences(before, now, "")]


def class_differences(before: Classes, now: Classes, most: int = 5) -> list[str]:
    """One line for each label that means something else, and beyond `most` how many more."""
    rows = [list(zip(each.names, each.category_ids, strict=True)) for each in (before, now)]
    length = max(map(len, rows))
    old, new = ([*each, *[None] * (length - len(each))] for each in rows)
    changed = [(label, was, is_now) for label, (was, is_now) in enumerate(zip(old, new, strict=True)) if was != is_now]
    lines = [f"label {label}: {_class(was)} there, {_class(is_now)} now" for label, was, is_now in changed[:most]]
    return lines if len(changed) <= most else [*lines, f"... and {len(changed) - most} more labels"]


def _class(row: tuple[str, int] | None) -> str:
    return "nothing" if row is None else f"{row[0]!r} (id {row[1]})"


def _differences(before: Any, now: Any, name: str) -> Iterator[tuple[str, str, str]]:
    kinds = [_renamable(each.get("class")) if isinstance(each, dict) else None for each in (before, now)]
    if None in kinds:
        if before != now and not _is_moved(name, before, now):
            yield name, _shown(before), _shown(now)
    elif kinds[0] != kinds[1]:
        yield name or "experiment", _shown(before), _shown(now)
    else:
        for key in (*now, *(before.keys() - now.keys())):
            if key != "class":
                yield from _differences(before.get(key), now.get(key), f"{name}.{key}" if name else key)


def _renamable(kind: Any) -> str | None:
    """A class without the name of its config file, which may have been renamed; None where it is no name."""
    if not isinstance(kind, str):
        return None
    return kind.rpartition(".")[-1] if kind.startswith(CONFIG) else kind


def _shown(value: Any) -> str:
    kind = value.get("class") if isinstance(value, dict) else None
    return kind.rpartition(".")[-1] if isinstance(kind, str) else json.dumps(value)
