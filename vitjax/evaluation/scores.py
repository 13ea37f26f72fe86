"""What every evaluation comes to."""

import dataclasses
from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class Scores(Protocol):
    """The scores of a split."""

    @property
    def summary(self) -> dict[str, float]:
        """The scores by name."""
        ...

    def table(self) -> str:
        """All of it as text for people."""
        ...


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """The scores of a split, the results for each image as json has them, and the names of images not read."""

    scores: Scores
    results: list[dict[str, Any]]
    unreadable: tuple[str, ...]
