"""What every evaluation comes to."""

import dataclasses
from typing import Any, Protocol, runtime_checkable

import numpy as np

METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
"""COCO's, in the order of its own tool."""


@runtime_checkable
class Scores(Protocol):
    """The scores of a split."""

    @property
    def summary(self) -> dict[str, float]:
        """The scores by name."""
        ...

    @property
    def by_class(self) -> dict[str, float]:
        """A score of every class, by its own name and that of the class ("AP/cat"); none where they are too many."""
        ...

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """What a file of arrays has besides, by name; none as a rule."""
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
