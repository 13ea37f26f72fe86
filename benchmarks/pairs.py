"""Sides in processes of their own, asked in turn, so that other work on the machine slows all of them alike."""

import dataclasses
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from vitjax.commands.huge_pages import asking

_ROOT = Path(__file__).resolve().parent.parent
_PATIENCE = 20.0  # seconds that a process has to end by itself
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclasses.dataclass(frozen=True)
class Answer:
    """One repetition: seconds of CPU of all threads, seconds on the clock, and the most memory so far, in bytes."""

    cpu: float
    wall: float
    memory: int = 0


@dataclasses.dataclass(frozen=True)
class Ratio:
    """How many times longer one side takes than another: the median, the least and the largest of the pairs."""

    median: float
    least: float
    most: float


class SideFailed(Exception):
    """A side ended before it answered; the message is its last error, or else the last line that it said."""


class Side:
    """A process that does one piece of work whenever it is asked, on so many cores; ends with the `with` block."""

    def __init__(self, words: Sequence[str], cores: int) -> None:
        """Starts it; `words` are the arguments of `benchmarks.side`."""
        self._said = tempfile.TemporaryFile("w+")
        environment = os.environ | dict.fromkeys(_THREADS, str(cores)) | {"JAX_PLATFORMS": "cpu", "HF_HUB_OFFLINE": "1"}
        environment = asking(environment) or environment  # both sides have huge pages, as vitjax's commands do
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.side", str(cores), *words],
            cwd=_ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
        )

    def __enter__(self) -> "Side":
        """Itself."""
        return self

    def __exit__(self, *_: Any) -> None:
        """Ends the process, which may have others of its own to end."""
        assert self._process.stdin is not None and self._process.stdout is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._said.close()

    def ready(self) -> dict[str, float]:
        """What is known of the work, once it has been built and done for the first time.

        Raises:
            SideFailed: it cannot be done.
        """
        return self._line()

    def __call__(self) -> Answer:
        """Does the work once.

        Raises:
            SideFailed: it ended.
        """
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # what it said is told below
            self._process.stdin.write("\n")
            self._process.stdin.flush()
        return Answer(**self._line())

    def _line(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if line:
            return json.loads(line)
        status = self._process.wait()
        self._said.seek(0)
        lines = [f"ended with status {status}", *filter(None, map(str.strip, self._said.read().splitlines()))]
        errors = [line for line in lines if re.match(r"[\w.]*(Error|Exception|Interrupt)\b", line)]
        raise SideFailed((errors or lines)[-1])


def rounds(sides: Mapping[str, Callable[[], Answer]], pairs: int) -> dict[str, list[Answer]]:
    """So many answers of each side, all sides once a round; the order turns round every time.

    A first round warms up and does not count.
    """
    answers: dict[str, list[Answer]] = {name: [] for name in sides}
    for turn in range(pairs + 1):
        for name in list(sides)[:: 1 if turn % 2 == 0 else -1]:
            answers[name].append(sides[name]())
    return {name: kept[1:] for name, kept in answers.items()}


def median(answers: Sequence[Answer], clock: str) -> float:
    """The median of `cpu` or `wall`, in seconds."""
    return statistics.median(getattr(answer, clock) for answer in answers)


def ratio(ours: Sequence[Answer], rival: Sequence[Answer], clock: str) -> Ratio:
    """How many times longer the rival takes, by the pairs of one round; above 1 we are faster."""
    each = [getattr(other, clock) / getattr(own, clock) for own, other in zip(ours, rival, strict=True)]
    return Ratio(statistics.median(each), min(each), max(each))
