"""Which of a detector's boxes people get to see."""

from dataclasses import dataclass

import numpy as np

from vitjax.data.source import Classes
from vitjax.errors import FieldError
from vitjax.inference.detector import Found
from vitjax.inference.prediction import Prediction, select
from vitjax.inference.suppression import suppress


@dataclass(frozen=True)
class BoxChoice:
    """The `top` best boxes, after suppression above an IoU of `nms`; those with a score of `threshold` are drawn."""

    threshold: float
    top: int = 100
    nms: float | None = None

    def __post_init__(self) -> None:
        """Refuses what is no IoU."""
        if self.nms is not None and not 0 <= self.nms <= 1:
            raise FieldError(f"non-maximum suppression (nms) needs an IoU from 0 to 1; got {self.nms}.")

    def of(self, found: Found, classes: Classes) -> Prediction:
        """The boxes for the results."""
        every = select(found, classes, 0.0)
        kept = every if self.nms is None else suppress(every, self.nms)
        return kept.take(np.arange(min(self.top, len(kept))))

    def shown(self, kept: Prediction) -> Prediction:
        """The boxes to draw, of those in the results."""
        return kept.take(np.flatnonzero(kept.scores >= self.threshold))
