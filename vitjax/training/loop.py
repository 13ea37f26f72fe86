"""The training loop."""

import dataclasses
import signal
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import jax
import numpy as np

from vitjax.checkpoints.folders import steps_in
from vitjax.checkpoints.store import Store
from vitjax.checkpoints.writing import writing
from vitjax.data.loader import batches
from vitjax.evaluation.scores import Evaluation
from vitjax.placement import place_batch
from vitjax.runs.configs import Config
from vitjax.runs.experiment import Experiment
from vitjax.runs.open_run import open_run
from vitjax.runs.run_folder import checkpoints_of
from vitjax.runs.start import require_start
from vitjax.structs import Batch, Terms
from vitjax.training.prepare import Prepared, prepare
from vitjax.training.report import MetricsLog, Progress
from vitjax.training.state import TrainState, variables_of
from vitjax.training.steps import divided_rows
from vitjax.training.watch import Watch

# Processes start anew for every evaluation, which takes seconds; fewer images than this are not worth another one.
_IMAGES_PER_WORKER = 2000
# Terms that count rows, of which the last batch of an evaluation has some without an image.
_OF_ROWS = ("cardinality_error", "unmatched")


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a run ended: the step it reached of how many, and its last and best evaluation metrics."""

    step: int
    total_steps: int
    last: dict[str, float]
    best: dict[str, float]


def train(experiment: Experiment, workdir: Path, *, config: Config | None = None) -> Outcome:
    """Trains to the last epoch, from the last checkpoint in `workdir` where there is one, and writes the report.

    Ctrl-C or SIGTERM ends the run after the step under way, with a checkpoint; after SIGTERM, which leaves little time,
    without a report. `config` is what the experiment came from, whose text is kept with the run.

    Raises:
        CannotWrite: `workdir` cannot be written.
        DataError: the data cannot be trained on, or there are no such weights to start from.
        FieldError: fields contradict each other, or weights to start from are missing.
        AnotherRun: `workdir` holds a run that this one is not; it is left as it is.
        RunInUse: another process trains into `workdir`.
        NonFiniteLoss: a step's loss was not finite; the last checkpoint stays.
    """
    with writing(workdir, "--workdir"):
        return _train(experiment, workdir, config)


def _train(experiment: Experiment, workdir: Path, config: Config | None) -> Outcome:
    from vitjax.training.verdict import keep_constant, report

    began = time.monotonic()
    if not steps_in(checkpoints_of(workdir)):
        _require_weights(experiment)
    run = prepare(experiment)
    print(run.headline(), flush=True)
    with open_run(workdir, run.experiment, run.train_source.classes, config=config) as opened:
        run = dataclasses.replace(run, experiment=opened.experiment)
        checkpoints = Store(
            checkpoints_of(workdir),
            keep_last=experiment.keep_last,
            keep_best=experiment.keep_best,
            metric=experiment.score,
            keep=run.drops,
        )
        with checkpoints as store:
            state, start = _begin(store, run)
            opened.record()
            keep_constant(workdir, run.sweep.task, run.train_source)
            with MetricsLog(workdir) as log, _interruption() as signals:
                log.truncate(start)
                state, step = _Turning(run, store, workdir, log, signals)(state, start)
            last, best = (_metrics(store, at) for at in (store.latest_step(), store.best_step()))
        outcome = Outcome(step, run.total_steps, last, best)
        if signal.SIGTERM not in signals:
            report(run, variables_of(state, experiment.optimizer), workdir, outcome, time.monotonic() - began)
    return outcome


def _require_weights(experiment: Experiment) -> None:
    """Raises an error now, before the data are read, where a new run has nothing to start from."""
    require_start(experiment)
    if experiment.init_from:
        from vitjax.runs.read_model import find  # which knows every family

        find(experiment.init_from)


def _begin(store: Store, run: Prepared) -> tuple[TrainState, int]:
    """The state that the run goes on from, and its step; of a new run the first, which is drawn or loaded only then."""
    fresh = store.is_empty
    notes = run.notes if fresh else ()
    about_data = (*run.experiment.notes(run.train_source), *run.train_source.problems, *run.evaluation_source.problems)
    for line in (*notes, *about_data):
        print(line, flush=True)
    if fresh:
        return run.state, 0
    step, state = store.restore_latest(run.shapes)
    print(f"goes on from step {step:,}", flush=True)
    return state, step


@dataclasses.dataclass(frozen=True)
class _Turning:
    """What turns the crank: the steps of a prepared run, with what is saved, logged and scored on the way."""

    run: Prepared
    store: Store
    workdir: Path
    log: MetricsLog
    signals: Sequence[int]

    def __call__(self, state: TrainState, start: int) -> tuple[TrainState, int]:
        """The steps from `start` to the end or to an interruption."""
        run, total, step = self.run, self.run.total_steps, start
        watch = Watch(run.train_source)
        with Progress(total, start) as progress, closing(self._loader(start)) as loader:
            if start == 0 and run.experiment.init_from:
                self._save(0, state)  # then to go on never needs the source of the first weights
            if self._is_scored(start) and not self.store.metrics(start):
                self._score(start, state, progress)  # the run was ended before it could
            self._log_scores(start)
            for step, parts in enumerate(loader, start=start + 1):
                state, metrics = run.train_step(state, [place_batch(part, run.mesh) for part in parts])
                watch.add(step, parts, metrics)
                progress.update(step, loss=watch.last_loss, images=run.experiment.batch_size)
                last = step == total or bool(self.signals)
                if step % run.experiment.log_every == 0 or last:
                    rate = float(run.learning_rate(step - 1))
                    self.log.write(step, "train", {**watch.averages(), "learning_rate": rate})
                if self._is_scored(step) or self._is_saved(step) or last:
                    watch.settle()
                    self._save(step, state)
                if self._is_scored(step) and not self.signals:
                    self._score(step, state, progress)
                    self._log_scores(step)
                if last or self.signals:
                    break
        self._tell_end(step, watch)
        return state, step

    def _loader(self, start: int) -> Generator[list[Batch], None, None]:
        """The parts of every step: as the plan has them, or every so many rows of one batch."""
        run, together = self.run, self.run.plan.parts
        reads = batches(
            run.train_source,
            run.plan,
            max_objects=max(1, run.train_source.max_objects * run.plan.images_in_one),
            start_step=start * together,
            steps=(run.total_steps - start) * together,
            workers=run.experiment.workers,
        )
        with closing(reads):
            for step in zip(*[reads] * together, strict=True):
                yield [part for read in step for part in divided_rows(read, run.experiment.micro_batches // together)]

    def _is_scored(self, step: int) -> bool:
        every = self.run.every(self.run.experiment.evaluate_every)
        return step > 0 and (step % every == 0 or step == self.run.total_steps)

    def _is_saved(self, step: int) -> bool:
        return step % self.run.every(self.run.experiment.save_every) == 0 or step in self.run.drops

    def _save(self, step: int, state: TrainState) -> None:
        self.store.save(step, state, notes={"classes": dataclasses.asdict(self.run.train_source.classes)})

    def _score(self, step: int, state: TrainState, progress: Progress) -> None:
        """Scores a state that is saved, and on disk: whatever happens meanwhile, nothing is lost."""
        from vitjax.training.verdict import keep_validation

        self.store.wait()
        scores, evaluation = _evaluate(self.run, state)
        keep_validation(self.run, self.store, self.workdir, step, scores, evaluation)
        names = self.run.sweep.task.about.headline
        progress.write(f"step {step:,}: " + ", ".join(f"{name} {scores[name]:.3f}" for name in names))

    def _log_scores(self, step: int) -> None:
        """Logs the scores of a saved step once; a run that was ended between the two has them with the checkpoint."""
        if self._is_scored(step) and not self.log.has(step, "val"):
            self.log.write(step, "val", self.store.metrics(step))

    def _tell_end(self, step: int, watch: Watch) -> None:
        if watch.broken:
            names = sorted(self.run.train_source.name(record) for record in watch.broken)
            print(f"{len(names)} training images could not be read and were replaced by others: {', '.join(names[:5])}")
        total = self.run.total_steps
        if step < total or (self._is_scored(step) and not self.store.metrics(step)):
            print(f"stopped at step {step:,} of {total:,}; the same command goes on from there", flush=True)


def _evaluate(run: Prepared, state: TrainState) -> tuple[dict[str, float], Evaluation]:
    """Scores, losses and scores by class, and the evaluation that they are of."""
    variables = variables_of(state, run.experiment.optimizer)
    source, batch_size = run.evaluation_source, run.evaluation_batch_size
    workers = min(run.experiment.workers, 1 + len(source) // _IMAGES_PER_WORKER)
    terms: list[Terms] = []
    answers = run.sweep(variables, source, batch_size=batch_size, workers=workers, terms=terms)
    evaluation = run.sweep.task.evaluate(answers, source)
    scores = evaluation.scores
    return {**scores.summary, **_losses(run, terms), **scores.by_class}, evaluation


def _losses(run: Prepared, terms: Sequence[Terms]) -> dict[str, float]:
    """The loss on the evaluation split, and the means of its terms in the last layer."""
    whole = jax.tree.map(lambda *batches: np.sum(batches, axis=0), *terms)
    last = {name: float(mean.value[-1]) for name, mean in whole.items() if not name.endswith(_OF_ROWS)}
    return {"loss": float(run.total(whole)), **last}


def _metrics(store: Store, step: int | None) -> dict[str, float]:
    return {} if step is None else {"step": step, **store.metrics(step)}


@contextmanager
def _interruption() -> Iterator[list[int]]:
    """The signals SIGINT and SIGTERM that have come, in a list that grows; a second SIGINT ends the process at once.

    With several processes JAX's own handling of SIGTERM is left in place.
    """
    seen: list[int] = []

    def note(number: int, _frame: object) -> None:
        seen.append(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    numbers = (signal.SIGINT, signal.SIGTERM) if jax.process_count() == 1 else (signal.SIGINT,)
    try:
        before = {number: signal.signal(number, note) for number in numbers}
    except ValueError:  # not the main thread: whoever started it handles signals
        before = {}
    try:
        yield seen
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
