"""When a run has waited long enough for a better score."""

from collections.abc import Sequence


def evaluations_in_vain(scores: Sequence[float]) -> int:
    """How many of the last scores are no better than one before them; those before the first above 0 do not count.

    The score of a detector is 0 for a while, in which the loss says that it learns. NaN is never better.
    """
    best, vain = 0.0, 0
    for score in scores:
        if score > best:
            best, vain = score, 0
        elif best > 0:
            vain += 1
    return vain
