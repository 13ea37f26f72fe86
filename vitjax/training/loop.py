"""The training loop."""

import dataclasses
import functools
import math
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax

from vitjax.checkpoints.folders import steps_in
from vitjax.checkpoints.store import Store
from vitjax.checkpoints.writing import writing
from vitjax.errors import VitjaxError
from vitjax.placement import place_batch
from vitjax.runs.experiment import Experiment
from vitjax.runs.run_folder import checkpoints_of
from vitjax.structs import Batch
from vitjax.training.company import Company
from vitjax.training.interruption import Interrupted, answering, before_the_first_step, interruption
from vitjax.training.outcome import CHECKPOINT, GOES_ON, Outcome, end_of, going_on
from vitjax.training.prepare import Prepared, prepare
from vitjax.training.report import MetricsLog, Progress, read_metrics
from vitjax.training.state import TrainState, variables_of
from vitjax.training.watch import UNREADABLE, Faulty, Watch

if TYPE_CHECKING:
    from vitjax.runs.configs import Config


def train(
    experiment: Experiment, workdir: Path, *, config: "Config | None" = None, fill_memory: bool = False
) -> Outcome:
    """Trains to the last epoch, from the last checkpoint in `workdir` where there is one, and writes the report.

    Ctrl-C or SIGTERM ends the run after the step under way, with a checkpoint; after SIGTERM, which leaves little time,
    without a report. `config` is what the experiment came from, whose text is kept with the run. With `fill_memory` a
    new run has the largest batch that fits, and one that goes on the batch that it had.

    Raises:
        CannotWrite: `workdir` cannot be written.
        DataError: the data cannot be trained on, or there are no such weights to start from.
        FieldError: fields contradict each other, or weights to start from are missing.
        AnotherRun: `workdir` holds a run that this one is not; it is left as it is.
        RunInUse: another process trains into `workdir`.
        NonFiniteLoss: a step's loss was not finite; the last checkpoint stays.
        Interrupted: a signal came before the first step; the folder is as it was.
    """
    if jax.process_count() > 1:
        from vitjax.training.several import train_on_all

        return train_on_all(_written, experiment, workdir, config, fill_memory)
    return _written(experiment, workdir, config, fill_memory, Company())


def _written(experiment: Experiment, workdir: Path, config: "Config | None", fill: bool, company: Company) -> Outcome:
    with writing(workdir, "--workdir"):
        return _train(experiment, workdir, config, fill, company)


def _train(
    experiment: Experiment, workdir: Path, config: "Config | None", fill_memory: bool, company: Company
) -> Outcome:
    from vitjax.training.verdict import is_reported, keep_constant, report

    began = time.monotonic()
    if company.first(lambda: not steps_in(checkpoints_of(workdir))):
        from vitjax.runs.start import require_weights

        require_weights(experiment)
    if experiment.loggers:
        from vitjax.training.loggers import require_packages

        require_packages(experiment.loggers)
    with interruption() as own:
        signals = company.signals(own)
        with before_the_first_step(workdir, signals):
            run = answering(signals, functools.partial(_prepared, experiment, workdir, fill_memory))
            experiment = run.experiment
        print(run.headline(), flush=True)
        with company.open(workdir, run.experiment, run.train_source.classes, config=config) as opened:
            run = dataclasses.replace(run, experiment=opened.experiment)
            with company.store(_store(run, workdir)) as store:
                with before_the_first_step(workdir, signals):
                    state, start = _begin(store, run, signals)
                opened.record()
                keep_constant(workdir, run.sweep.task, run.train_source, fresh=store.is_empty)
                with MetricsLog(workdir, _loggers(experiment, workdir)) as log:
                    log.truncate(start)
                    turning = _Turning(run, store, workdir, log, signals, company)
                    state, step = turning(state, start)
                latest, unwritten = store.latest_step(), {**turning.unwritten, **log.unwritten}
                if latest == step:  # those before it no longer matter
                    unwritten = {name: fault for name, fault in unwritten.items() if not name.startswith(CHECKPOINT)}
                last, best = (
                    {} if at is None else {"step": at, **store.metrics(at)} for at in (latest, store.best_step())
                )
            outcome = Outcome(step, run.total_steps, last, best)
            ended = step == run.total_steps and len(last) > 1
            if not turning.gave_up and signal.SIGTERM not in signals and (step > start or not signals):
                shown = company.for_first(run, run.whole(variables_of(state, experiment.optimizer)))
                given = (*shown, workdir, outcome, time.monotonic() - began)
                with going_on(unwritten, f"{workdir / 'report'}", "the same command writes it"):
                    ended &= bool(company.first(lambda: is_reported(signals, lambda: report(*given))))
            else:
                ended = ended and not signals
    stopped_by = signals[0] if signals and not ended else None
    return dataclasses.replace(outcome, stopped_by=stopped_by, unwritten=tuple(unwritten))


def _store(run: Prepared, workdir: Path) -> Store:
    """The run's checkpoints, of which the experiment says which are kept."""
    asked, folder = run.experiment, checkpoints_of(workdir)
    options: Any = {"keep_last": asked.keep_last, "keep_best": asked.keep_best, "metric": asked.score}
    return Store(folder, keep=run.drops, **options)


def _loggers(experiment: Experiment, workdir: Path) -> list[Any]:
    """Where metrics go besides the run's own files."""
    if not experiment.loggers:
        return []
    from vitjax.training.loggers import open_loggers

    return open_loggers(experiment, workdir)


def _prepared(experiment: Experiment, workdir: Path, fill_memory: bool) -> Prepared:
    if not fill_memory:
        return prepare(experiment)
    from vitjax.training.batch_size import filling_memory  # which only those need who ask for it

    return filling_memory(experiment, workdir)


def _begin(store: Store, run: Prepared, signals: Sequence[int]) -> tuple[TrainState, int]:
    """The state that the run goes on from, and its step; of a new run the first, which is drawn or loaded only then."""
    fresh = store.is_empty
    if fresh:
        source = run.experiment.init_from
        told = f"taking the first weights from {source}" if source else "compiling and drawing the first weights"
        print(told, file=sys.stderr, flush=True)
    notes = answering(signals, lambda: run.notes) if fresh else ()
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
    company: Company
    gave_up: list[str] = dataclasses.field(default_factory=list)
    """What was given up for a signal: "compiling" or "scoring"."""
    unwritten: dict[str, str] = dataclasses.field(default_factory=dict)
    """What the disk did not take, and why."""

    def __call__(self, state: TrainState, start: int) -> tuple[TrainState, int]:
        """The steps from `start` to the end or to an interruption."""
        run, total, step, kept = self.run, self.run.total_steps, start, start
        watch = self._watch(lambda faulty: self._explained(faulty, state))
        with Progress(total, start) as progress, closing(run.reads(start)) as reads, self._sizes(progress) as sizes:
            loader = self.company.steps(reads)
            if start == 0 and run.experiment.init_from:
                self._save(0, state)  # then to go on never needs the source of the first weights
            if self._is_scored(start) and not self.signals and not self.store.metrics(start):
                self._score(start, state, progress)  # the run was ended before it could
            self._log_scores(start)
            while step < total and not (self.signals or self._has_waited(step)):
                parts = self._next(loader, watch, step, state if step > kept else None)
                placed = [place_batch(part, run.mesh) for part in parts]
                if not self._is_compiled(sizes, state, placed, step):
                    break
                state, metrics = run.train_step(state, placed)
                step += 1
                watch.add(step, parts, metrics)
                progress.update(step, loss=watch.last_loss, images=run.experiment.batch_size)
                last = step == total or bool(self.signals)
                if step % run.experiment.log_every == 0 or last:
                    self._log_training(step, watch)
                if self._is_scored(step) or self._is_saved(step) or last:
                    watch.settle()
                    self._save(step, state)
                    kept = step
                if self._is_scored(step) and not self.signals:
                    self._score(step, state, progress)
                    self._log_scores(step)
            if step > kept:  # a signal came after it was asked for
                self._log_training(step, watch)
                self._save(step, state)
        with self._going_on(f"{CHECKPOINT} of step {step:,}"):
            self.store.wait()
        for line in end_of(self.run, self.store, start, step, watch.broken, self.signals):
            print(line, flush=True)
        return state, step

    def _watch(self, explained: Callable[[Faulty], str]) -> Watch:
        source, skips = self.run.train_source, self.run.experiment.skip_non_finite
        told: Any = {"unreadable": self._unreadable, "explained": explained, "gathered": self.company.gathered}
        watch = Watch(source, skips=skips, **told)
        if (self.workdir / UNREADABLE).is_file():
            from vitjax.training.faults import require_readable, unreadable_records

            watch.broken |= {*(self.company.first(lambda: sorted(unreadable_records(self.workdir, source))) or ())}
            require_readable(self.workdir, source, len(watch.broken), self.run.experiment.max_unreadable)
        return watch

    def _next(self, loader: Iterator[list[Batch]], watch: Watch, step: int, state: TrainState | None) -> list[Batch]:
        """The parts of the step after this one; where they cannot be had, a state that is not saved yet is."""
        try:
            parts = next(loader)
            watch.missing(step + 1, self.company.broken(parts))
        except VitjaxError:
            watch.settle()
            if state is not None:
                self._save(step, state)
                print(f"stopped at step {step:,} of {self.run.total_steps:,}; {GOES_ON}", flush=True)
            with self._going_on(f"{CHECKPOINT} of step {step:,}"):
                self.store.wait()  # for what this error tells other hosts ends them
            raise
        return parts

    def _unreadable(self, step: int, records: Sequence[int], missing: int) -> None:
        from vitjax.training.faults import note_unreadable  # which most runs do not need

        share = self.run.experiment.max_unreadable
        note_unreadable(self.workdir, self.run.train_source, records, step, missing=missing, share=share)

    def _explained(self, faulty: Faulty, state: TrainState) -> str:
        from vitjax.training.faults import explained

        given = (self.run, self.store, self.workdir, faulty, state, self.run.reads)
        return answering(self.signals, lambda: explained(*given))

    def _sizes(self, progress: Progress) -> Any:
        from vitjax.training.sizes import Sizes

        return closing(Sizes(self.run, progress.note, self.company.compile))

    def _is_compiled(self, sizes: Any, state: TrainState, parts: Sequence[Batch], step: int) -> bool:
        """Whether the step is compiled for the sizes of the parts; not where a signal came."""
        return not sizes.are_new(parts) or self._does("compiling", lambda: sizes.compile(state, parts, step))

    def _does(self, name: str, work: Callable[[], Any]) -> bool:
        """Whether the work was done, and not given up for a signal."""
        try:
            answering(self.signals, work)
        except Interrupted:
            self.gave_up.append(name)
            return False
        return True

    def _log_training(self, step: int, watch: Watch) -> None:
        rate = float(self.run.learning_rate(step - 1))
        if not self.log.has(step, "train"):
            self.log.write(step, "train", {**watch.averages(), "learning_rate": rate})

    def _is_scored(self, step: int) -> bool:
        every = self.run.every(self.run.experiment.evaluate_every)
        return step > 0 and (step % every == 0 or step == self.run.total_steps)

    def _is_saved(self, step: int) -> bool:
        return step % self.run.every(self.run.experiment.save_every) == 0 or step in self.run.drops

    def _save(self, step: int, state: TrainState) -> None:
        notes = {"classes": dataclasses.asdict(self.run.train_source.classes)}
        with self._going_on(f"{CHECKPOINT}s before step {step:,}"):
            self.store.wait()
        with self._going_on(f"{CHECKPOINT} of step {step:,}"):
            self.store.save(step, state, notes=notes)

    def _going_on(self, name: str) -> AbstractContextManager[None]:
        return going_on(self.unwritten, name, "the run goes on")

    def _score(self, step: int, state: TrainState, progress: Progress) -> None:
        """Scores a state that is saved, and on disk: whatever happens meanwhile, nothing is lost."""
        with self._going_on(f"{CHECKPOINT} of step {step:,}"):
            self.store.wait()
        if step not in self.store.steps():
            return
        from vitjax.training.scoring import evaluated

        found: list[Any] = []
        if not self._does("scoring", lambda: found.append(evaluated(self.run, state, self.signals))):
            return
        self.company.first(lambda: self._keep_scores(step, found[0], progress))

    def _keep_scores(self, step: int, found: Any, progress: Progress) -> None:
        from vitjax.training.verdict import keep_validation

        if unreadable := found.evaluation.unreadable:
            from vitjax.training.faults import note_unanswered

            note_unanswered(self.workdir, unreadable, step)
        scores = found.scores
        with self._going_on(f"{self.workdir}, what the validation of step {step:,} says,"):
            keep_validation(self.run, self.store, self.workdir, step, scores, found.evaluation)
        if found.sheet is not None:
            self.log.image(step, "val/predictions", found.sheet)
        names = self.run.sweep.task.about.headline
        progress.write(f"step {step:,}: " + ", ".join(f"{name} {scores[name]:.3f}" for name in names if name in scores))

    def _log_scores(self, step: int) -> None:
        """Logs the scores of a saved step once; a run that was ended between the two has them with the checkpoint."""
        if not self._is_scored(step) or self.log.has(step, "val") or step not in self.store.steps():
            return
        if scores := self.store.metrics(step):
            self.log.write(step, "val", scores)

    def _has_waited(self, step: int) -> bool:
        """Whether the score has not been better in so many evaluations as the experiment's patience."""
        patience, score = self.run.experiment.patience, self.run.experiment.score
        if patience is None or not self._is_scored(step):
            return False
        from vitjax.training.patience import evaluations_in_vain

        def waited() -> bool:
            scores = [each.get(score, math.nan) for each in read_metrics(self.workdir) if each["split"] == "val"]
            return evaluations_in_vain(scores) >= patience

        return bool(self.company.first(waited))
