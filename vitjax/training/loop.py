"""The training loop."""

import dataclasses
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import jax

from vitjax.checkpoints.store import Store
from vitjax.data.loader import batches
from vitjax.inference.page import draw_page
from vitjax.placement import place_batch, place_state
from vitjax.runs.experiment import Experiment
from vitjax.runs.run_folder import checkpoints_of, require_same_model, write_run
from vitjax.training.prepare import Prepared, prepare
from vitjax.training.report import MetricsLog, Progress, plot_curves, write_summary
from vitjax.training.state import TrainState, variables_of
from vitjax.training.watch import Watch

# Processes start anew for every evaluation, which takes seconds; fewer images than this are not worth another one.
_IMAGES_PER_WORKER = 2000


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a run ended: the step it reached of how many, and its last and best evaluation metrics."""

    step: int
    total_steps: int
    last: dict[str, float]
    best: dict[str, float]


def train(experiment: Experiment, workdir: Path) -> Outcome:
    """Trains to the last epoch, from the last checkpoint in `workdir` where there is one, and writes the report.

    Ctrl-C or SIGTERM ends the run after the step under way, with a checkpoint.

    Raises:
        DataError: the data cannot be trained on.
        NonFiniteLoss: a step's loss was not finite; the last checkpoint stays.
    """
    began = time.monotonic()
    require_same_model(workdir, experiment)
    run = prepare(experiment)
    for line in (run.headline(), *run.notes, *run.train_source.problems, *run.evaluation_source.problems):
        print(line, flush=True)
    write_run(workdir, run.experiment, run.train_source.classes)
    checkpoints = Store(
        checkpoints_of(workdir),
        keep_last=experiment.keep_last,
        keep_best=experiment.keep_best,
        metric=experiment.best or experiment.task.about.headline[0],
    )
    with checkpoints as store, MetricsLog(workdir) as log:
        state, start = _resume(store, run)
        log.truncate(start)
        state, step = _turn(run, store, log, state, start)
        last, best = (_metrics(store, at) for at in (store.latest_step(), store.best_step()))
    outcome = Outcome(step, run.total_steps, last, best)
    _report(run, state, workdir, outcome, time.monotonic() - began)
    return outcome


def _resume(store: Store, run: Prepared) -> tuple[TrainState, int]:
    if store.latest_step() is None:
        return run.state, 0
    step, state = store.restore_latest(run.state)
    print(f"goes on from step {step:,}", flush=True)
    return place_state(state, run.mesh), step


def _turn(run: Prepared, store: Store, log: MetricsLog, state: TrainState, start: int) -> tuple[TrainState, int]:
    """The steps from `start` to the end or to an interruption."""
    experiment, total, step = run.experiment, run.total_steps, start
    headline = experiment.task.about.headline
    evaluate_steps, save_steps = run.every(experiment.evaluate_every), run.every(experiment.save_every)
    watch = Watch(run.train_source)
    notes = {"classes": dataclasses.asdict(run.train_source.classes)}
    max_objects = max(1, run.train_source.max_objects)
    loader = batches(
        run.train_source,
        run.plan,
        max_objects=max_objects,
        start_step=start,
        steps=total - start,
        workers=experiment.workers,
    )
    with closing(loader), Progress(total, start) as progress, _interruption() as interrupted:
        for step, batch in enumerate(loader, start=start + 1):
            state, metrics = run.train_step(state, place_batch(batch, run.mesh))
            watch.add(step, batch, metrics)
            progress.update(step, loss=watch.last_loss, images=experiment.batch_size)
            last = step == total or interrupted()
            if step % experiment.log_every == 0 or last:
                log.write(step, "train", {**watch.averages(), "learning_rate": float(run.learning_rate(step - 1))})
            scores: dict[str, float] = {}
            if step % evaluate_steps == 0 or step == total:
                watch.settle()
                scores = _evaluate(run, state)
                log.write(step, "val", scores)
                progress.write(f"step {step:,}: " + ", ".join(f"{n} {scores[n]:.3f}" for n in headline))
            if scores or step % save_steps == 0 or last:
                watch.settle()
                store.save(step, state, metrics=scores, notes=notes)
            if last:
                break
    if watch.broken:
        names = sorted(run.train_source.name(record) for record in watch.broken)
        print(f"{len(names)} training images could not be read and were replaced by others: {', '.join(names[:5])}")
    if step < total:
        print(f"stopped at step {step:,} of {total:,}; the same command goes on from there", flush=True)
    return state, step


def _evaluate(run: Prepared, state: TrainState) -> dict[str, float]:
    variables = variables_of(state, run.experiment.optimizer)
    source, batch_size = run.evaluation_source, run.evaluation_batch_size
    workers = min(run.experiment.workers, 1 + len(source) // _IMAGES_PER_WORKER)
    answers = run.sweep(variables, source, batch_size=batch_size, workers=workers)
    return run.sweep.task.evaluate(answers, source).scores.summary


def _metrics(store: Store, step: int | None) -> dict[str, float]:
    return {} if step is None else {"step": step, **store.metrics(step)}


def _report(run: Prepared, state: TrainState, workdir: Path, outcome: Outcome, seconds: float) -> None:
    """Curves, a page of predictions and the summary, under `report/`."""
    variables = variables_of(state, run.experiment.optimizer)
    pictures = plot_curves(workdir)
    page = workdir / "report" / "predictions.png"
    draw_page(run.sweep, variables, run.evaluation_source, page, batch_size=run.evaluation_batch_size)
    summary = write_summary(
        workdir, outcome.last, outcome.best, steps=outcome.step, seconds=seconds, device=jax.devices()[0].device_kind
    )
    print("report: " + ", ".join(str(path) for path in (*pictures, page, summary)), flush=True)


@contextmanager
def _interruption() -> Iterator[Callable[[], bool]]:
    """Whether SIGINT or SIGTERM has come; a second SIGINT ends the process at once.

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
        yield lambda: bool(seen)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
