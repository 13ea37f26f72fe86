"""What a run says while it goes on: metrics.jsonl and TensorBoard, and a progress bar."""

import collections
import datetime
import io
import json
import math
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, SupportsFloat

import numpy as np

from vitjax.checkpoints.writing import AppendedFile, replace_text
from vitjax.errors import VitjaxError
from vitjax.training.terminal import bar_on


class MetricsLog:
    """Appends records to `metrics.jsonl` and TensorBoard's `tensorboard/` in the workdir; a context manager.

    A line is an object of "step", "split" and values by name, null for NaN and infinity; `others` get the same.
    """

    def __init__(self, workdir: Path, others: Sequence[Any] = ()) -> None:
        """Opens the log of the workdir and goes on at its end, without a last line that a kill left unfinished."""
        self._others = others
        self._path = workdir / "metrics.jsonl"
        self._folder = workdir / "tensorboard"
        self._written: set[tuple[int, str]] = set()
        self._events: Any = None
        self._waiting = b""  # lines that could not be written yet
        self.unwritten: dict[str, str] = {}
        """What could not be written, by name, and why."""
        self._purge_step: int | None = None
        workdir.mkdir(parents=True, exist_ok=True)
        if self._path.exists():
            self._rewrite(_read(self._path))
        self._file = AppendedFile(self._path)

    def write(self, step: int, split: Literal["train", "val"], values: Mapping[str, SupportsFloat]) -> None:
        """Appends one record; it is on disk when this returns, or else is tried again with the next.

        Raises:
            VitjaxError: a value is called "step" or "split".
        """
        if taken := {"step", "split"} & set(values):
            raise VitjaxError(f"A metric is called {min(taken)!r}, which every record has already; name it otherwise.")
        numbers = {name: float(value) for name, value in values.items()}
        self._written.add((step, split))
        line = json.dumps(plain({"step": step, "split": split} | numbers), allow_nan=False) + "\n"
        self._waiting += line.encode()
        self._append()
        finite = {f"{split}/{name}": number for name, number in numbers.items() if math.isfinite(number)}
        self._to_tensorboard(lambda events: [events.scalar(name, number, step) for name, number in finite.items()])
        for other in self._others:
            other.scalars(step, finite)

    def image(self, step: int, name: str, picture: np.ndarray) -> None:
        """Gives a picture, height x width x 3 of uint8, to TensorBoard and the others."""
        self._to_tensorboard(lambda events: events.image(name, picture, step))
        for other in self._others:
            other.image(step, name, picture)

    def has(self, step: int, split: Literal["train", "val"]) -> bool:
        """Whether there is a record of the step and the split."""
        return (step, split) in self._written

    def truncate(self, step: int) -> None:
        """Cuts what was logged after `step`, for a run that goes on from there."""
        self.close()
        self._rewrite([record for record in _read(self._path) if record["step"] <= step])
        # Event files are not rewritten; TensorBoard hides what lies behind this mark.
        self._purge_step = step + 1 if self._folder.exists() else None
        self._file = AppendedFile(self._path)

    def close(self) -> None:
        """Closes the files; a second call does nothing."""
        if self._waiting:
            self._append()
        self._file.close()
        if self._events is not None:
            self._events.close()
            self._events = None

    def __enter__(self) -> "MetricsLog":
        """The log itself."""
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        """Closes the files, and the others."""
        self.close()
        for other in self._others:
            other.close(kind is not None)

    def _append(self) -> None:
        try:
            self._file.append(self._waiting)
        except OSError as error:
            self._cannot(self._path, error, "its lines wait until there is room")
        else:
            self._waiting = b""
            self.unwritten.pop(str(self._path), None)

    def _to_tensorboard(self, give: Callable[[Any], object]) -> None:
        if str(self._folder) in self.unwritten:
            return
        try:
            if self._events is None:
                from vitjax.training.event_files import EventFile

                self._events = EventFile(self._folder, self._purge_step)
            give(self._events)
        except OSError as error:
            self._cannot(self._folder, error, "TensorBoard gets no more of this run")

    def _cannot(self, path: Path, error: OSError, instead: str) -> None:
        """Says once that something cannot be written, with which the run goes on."""
        if str(path) not in self.unwritten:
            self.unwritten[str(path)] = str(error.strerror)
            print(f"warning: {path} cannot be written: {error.strerror}; {instead}", file=sys.stderr, flush=True)

    def _rewrite(self, records: Sequence[Mapping[str, Any]]) -> None:
        self._written = {(record["step"], str(record.get("split"))) for record in records}
        replace_text(self._path, "".join(json.dumps(plain(record)) + "\n" for record in records))


def read_metrics(workdir: Path) -> list[dict[str, Any]]:
    """The records of the run's metrics.jsonl in order, with NaN for null.

    Raises:
        FileNotFoundError: there is none.
        VitjaxError: a line but an unfinished last is no record.
    """
    path = workdir / "metrics.jsonl"
    if not path.exists():
        raise FileNotFoundError(f"There is no {path}; give the workdir of a run that has logged something.")
    return _read(path)


def _read(path: Path) -> list[dict[str, Any]]:
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    records = []
    for number, line in enumerate(lines, start=1):
        try:
            values = {name: math.nan if value is None else value for name, value in json.loads(line).items()}
            if not isinstance(values["step"], int) or not isinstance(values["split"], str):
                raise TypeError
            records.append(values | {name: value + 0 for name, value in values.items() if name != "split"})
        except (ValueError, AttributeError, LookupError, TypeError, RecursionError) as error:
            if number == len(lines):
                break
            wish = "delete the line or the file"
            raise VitjaxError(f"{path}, line {number}, is no record with a step; {wish}.") from error
    return records


class Progress:
    """A progress bar with loss, images/s and time left; where stderr has no rows, a plain line every `every` steps.

    Time left is reckoned from the first update on, when compilation is over. A context manager.
    """

    def __init__(
        self, total_steps: int, start_step: int = 0, *, every: int | None = None, stream: io.TextIOBase | None = None
    ) -> None:
        """Begins at `start_step`; unless given, `every` makes about fifty lines, one in a hundred steps at least."""
        self._total, self._step = total_steps, start_step
        self._every = every or min(max(total_steps // 50, 1), 100)
        self._stream = stream or sys.stderr
        self._loss, self._images_per_second = math.nan, math.nan
        self._first: tuple[int, float] | None = None
        self._last: tuple[int, float] | None = None
        self._seconds: collections.deque[float] = collections.deque(maxlen=32)
        self._bar = bar_on(self._stream, total_steps, start_step)

    def update(self, step: int, *, loss: SupportsFloat | None = None, images: int | None = None) -> None:
        """Shows that `step` is done; what is not given stays as it was.

        Images/s come from the number of `images` in a step and the median time of the last steps.
        """
        now = time.monotonic()
        if self._last is None:
            self._first = (step, now)
        elif step > self._last[0]:
            self._seconds.append((now - self._last[1]) / (step - self._last[0]))
        self._last = (step, now)
        if loss is not None:
            self._loss = float(loss)
        if images is not None and self._seconds:
            self._images_per_second = images / max(statistics.median(self._seconds), 1e-9)
        before, self._step = self._step, step
        if self._bar is not None:
            self._bar.set_postfix_str(self._state(), refresh=False)
            self._bar.update(step - before)
        elif step // self._every > before // self._every or step == self._total:
            print(f"step {step:,}/{self._total:,}, {self._state()}", file=self._stream, flush=True)

    def note(self, text: str) -> None:
        """Shows what takes time before the next update: in the bar, or as a plain line."""
        if self._bar is not None:
            self._bar.set_postfix_str(text)
        else:
            print(text, file=self._stream, flush=True)

    def write(self, text: str) -> None:
        """Prints a line to stdout, above the bar."""
        if self._bar is not None:
            self._bar.write(text, file=sys.stdout)
        else:
            print(text, flush=True)

    def close(self) -> None:
        """Leaves the bar as it stands; a second call does nothing."""
        if self._bar is not None:
            self._bar.close()

    def __enter__(self) -> "Progress":
        """The bar itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Closes the bar."""
        self.close()

    def _state(self) -> str:
        parts = [] if math.isnan(self._loss) else [f"loss {self._loss:.3f}"]
        rate = self._images_per_second
        parts += [] if math.isnan(rate) else [f"{rate:,.0f} images/s" if rate >= 10 else f"{rate:.2g} images/s"]
        if self._first and self._last and self._last[0] > self._first[0]:
            per_step = (self._last[1] - self._first[1]) / (self._last[0] - self._first[0])
            left = round(per_step * max(self._total - self._last[0], 0))
            parts.append(f"{datetime.timedelta(seconds=left)} left")
        return ", ".join(parts)


def plain(value: Any) -> Any:
    """What json can hold, with None for numbers that it cannot."""
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):  # scalars and arrays of NumPy and JAX
        return plain(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value
