"""What a run shows of its predictions at each evaluation."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from jaxtyping import UInt8

from vitjax.data.errors import DataError
from vitjax.data.source import Source
from vitjax.inference.page import sheet_of
from vitjax.prediction import Answer

_TILE, _COLUMNS = 320, 2  # so small that every evaluation can keep one


class Shown:
    """Some answers of an evaluation, from all over the source, that are noted as they pass."""

    def __init__(self, task: Any, source: Source, count: int) -> None:
        """Has seen none yet."""
        self._task, self._source = task, source
        self._records = set(np.linspace(0, len(source) - 1, min(count, len(source))).astype(int).tolist())
        self._noted: dict[int, Answer] = {}

    def noting(self, answers: Iterable[Answer]) -> Iterator[Answer]:
        """The answers."""
        for answer in answers:
            if answer.record in self._records:
                self._noted[answer.record] = answer
            yield answer

    def sheet(self) -> UInt8[np.ndarray, "height width 3"] | None:
        """Their pictures; None where there are none, or one cannot be read again."""
        answers = [self._noted[record] for record in sorted(self._noted)]
        if not answers:
            return None
        tile = min(self._task.about.page.tile or _TILE, _TILE)
        try:
            return sheet_of(self._task, answers, self._source, columns=_COLUMNS, tile=tile)
        except DataError:
            return None
