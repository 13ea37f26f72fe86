"""Sides in processes of their own, asked in turn, so that other work on the machine slows all of them alike."""

import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).resolve().parent.parent
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
    """A side ended before it answered; the message is the last line that it said."""


class Side:
    """A process that does one piece of work whenever it is asked, on so many cores; ends with the `with` block."""

    def __init__(self, words: Sequence[str], cores: int) -> None:
        """Starts it; `words` are the arguments of `benchmarks.side`."""
        self._said = tempfile.TemporaryFile("w+")
        environment = os.environ | dict.fromkeys(_THREADS, str(cores)) | {"JAX_PLATFORMS": "cpu", "HF_HUB_OFFLINE": "1"}
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
        """Ends the process."""
        self._process.kill()
        self._process.communicate()
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
        try:
            self._process.stdin.write("\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # what it said is told below
        return Answer(**self._line())

    def _line(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if line:
            return json.loads(line)
        status = self._process.wait()
        self._said.seek(0)
        lines = self._said.read().strip().splitlines()
        raise SideFailed(lines[-1].strip() if lines else f"ended with status {status}")


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
