"""What an evaluation on the way comes to: scores, losses, and a sheet of pictures."""

import collections
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np

from vitjax.evaluation.scores import Evaluation
from vitjax.structs import Terms
from vitjax.training.interruption import until
from vitjax.training.pictures import Shown
from vitjax.training.prepare import Prepared
from vitjax.training.state import TrainState, variables_of

# Processes start anew for every evaluation, which takes seconds; fewer images than this are not worth another one.
_IMAGES_PER_WORKER = 2000
# Terms that count rows, of which the last batch of an evaluation has some without an image.
_OF_ROWS = ("cardinality_error", "unmatched")


class Found(NamedTuple):
    """Scores, losses and scores by class; the evaluation that they are of; and a sheet of pictures."""

    scores: dict[str, float]
    evaluation: Evaluation
    sheet: np.ndarray | None


def evaluated(run: Prepared, state: TrainState, signals: Sequence[int] = ()) -> Found | None:
    """What an evaluation comes to; given up where a signal comes. None on all hosts but the first."""
    variables = run.whole(variables_of(state, run.experiment.optimizer))
    source, batch_size = run.evaluation_source, run.evaluation_batch_size
    workers = min(run.experiment.workers, 1 + len(source) // _IMAGES_PER_WORKER)
    terms: list[Terms] = []
    answers = until(signals, run.sweep(variables, source, batch_size=batch_size, workers=workers, terms=terms))
    if jax.process_index() > 0:  # the first host scores, the others only compute
        collections.deque(answers, maxlen=0)
        return None
    shown = Shown(run.sweep.task, source, run.experiment.log_images)
    evaluation = run.sweep.task.evaluate(shown.noting(answers), source)
    scores = evaluation.scores
    found = {**scores.summary, **_losses(run, terms), **scores.by_class}
    return Found(found, evaluation, shown.sheet())


def _losses(run: Prepared, terms: Sequence[Terms]) -> dict[str, float]:
    """The loss on the evaluation split, and the means of its terms in the last layer."""
    whole = jax.tree.map(lambda *batches: np.sum(batches, axis=0), *terms)
    last = {name: float(mean.value[-1]) for name, mean in whole.items() if not name.endswith(_OF_ROWS)}
    return {"loss": float(run.total(whole)), **last}
