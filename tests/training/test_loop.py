"""The rhythm of a run: at which steps it logs, saves and scores, where it stops, and how it goes on."""

import dataclasses
import itertools
import threading
import time
import types

import numpy as np
import pytest
from inference.test_sweep import Coloured

from vitjax.checkpoints.store import NoRoom
from vitjax.classification.classifier import Classifier
from vitjax.classification.postprocess import TopClasses
from vitjax.data.crops import RandomCrop
from vitjax.data.loader import batches
from vitjax.data.workers import WorkerDied
from vitjax.evaluation import class_checks
from vitjax.evaluation.scores import Evaluation
from vitjax.placement import data_mesh
from vitjax.runs.optimizer import AdamW, StepSchedule
from vitjax.structs import Mean
from vitjax.tasks.classification import Classification
from vitjax.training import loop, prepare, scoring, verdict
from vitjax.training.company import Company
from vitjax.training.faults import TooManyUnreadable
from vitjax.training.prepare import Prepared
from vitjax.training.report import MetricsLog
from vitjax.training.scoring import Found

SOURCE = Coloured(records=6, broken=())  # three steps an epoch
EXPERIMENT = Classification(
    model=Classifier(num_classes=3), augmentation=RandomCrop(8), batch_size=2, log_every=2, save_every=2 / 3
)


class Kept:
    """A store that notes what it is given."""

    def __init__(self):
        self.saved, self.scores, self.images, self.parts = [], {}, [], set()

    def save(self, step, state, *, notes):
        assert state == step and notes["classes"]["names"] == SOURCE.classes.names
        self.saved.append(step)

    def wait(self):
        """Everything is on disk."""

    def annotate(self, step, scores):
        assert step in self.saved
        self.scores[step] = scores

    def metrics(self, step):
        return self.scores.get(step, {})

    def steps(self):
        return tuple(self.saved)

    def latest_step(self):
        return max(self.saved, default=None)

    def best_step(self):
        return max(self.scores, default=None)


class Logged(dict):
    """A log by step and split."""

    def write(self, step, split, values):
        assert (step, split) not in self
        self[step, split] = values

    def has(self, step, split):
        return (step, split) in self


class Sweeping:
    """What is predicted does not matter here."""

    scores = types.SimpleNamespace(
        summary={"top1": 0.5}, by_class={"IoU/cat": 0.25}, arrays={"precision": np.ones(2)}, table=str
    )
    task = types.SimpleNamespace(
        about=types.SimpleNamespace(headline=("top1",)),
        checks=class_checks,
        postprocess=TopClasses(),
        evaluate=lambda answers, source: Evaluation(Sweeping.scores, [], ()),
    )

    def __call__(self, variables, source, *, batch_size, workers, terms):
        terms += [{"box": Mean(np.array([9.0, total]), np.array([2.0, 2.0]))} for total in (1.0, 2.0)]
        terms[-1] |= {"cardinality_error": Mean(np.ones(2), np.ones(2))}
        terms[0] |= {"cardinality_error": Mean(np.ones(2), np.ones(2))}
        return iter(())


@pytest.fixture
def turned(monkeypatch, tmp_path):
    """A run of six steps, whose state is its step, from a step on, and until a signal comes in a step."""
    monkeypatch.setattr(scoring, "variables_of", lambda state, optimizer: {})
    monkeypatch.setattr(loop, "place_batch", lambda batch, mesh: batch)

    def turn(start=0, until=None, store=None, log=None, compiling=lambda signals: None, **fields):
        store, log, signals = Kept() if store is None else store, Logged() if log is None else log, []

        def train_step(state, parts):
            signals.extend([2] if state + 1 == until else [])
            store.images.append([record for part in parts for record in part.records.tolist()])
            store.parts.add(len(parts))
            return state + 1, {"loss": 2.0, "gradient_norm": 1.0}

        experiment = dataclasses.replace(EXPERIMENT, **fields)
        nothing = dict.fromkeys(field.name for field in dataclasses.fields(Prepared))
        run = nothing | {"experiment": experiment, "mesh": data_mesh(), "plan": experiment.plan(SOURCE)}
        run |= {"train_source": SOURCE, "evaluation_source": SOURCE, "total_steps": 6, "sweep": Sweeping()}
        train_step.lowered = lambda state, parts: [types.SimpleNamespace(compile=lambda: compiling(signals))]
        run |= {"train_step": train_step, "learning_rate": lambda step: 0.5**step}
        run |= {"optimizer": experiment.optimizer, "total": lambda terms: 5 * terms["box"].value.sum()}
        state, step = loop._Turning(Prepared(**run), store, tmp_path, log, signals, Company())(start, start)
        assert state == step
        return step, store, log

    return turn


def test_a_run_logs_saves_and_scores_every_so_often_and_at_its_end(turned, capsys):
    step, store, log = turned()
    assert step == 6 and store.saved == [2, 3, 4, 6] and list(store.scores) == [3, 6]
    assert list(log) == [(2, "train"), (3, "val"), (4, "train"), (6, "train"), (6, "val")]
    assert log[3, "val"]["top1"] == 0.5 and log[2, "train"]["loss"] == 2.0
    assert "step 3: top1 0.500" in capsys.readouterr().out


def test_scores_have_the_losses_and_the_classes_beside_them_and_arrays_are_files(turned, tmp_path):
    """Sums are divided once: 18 / 4 in the first layer, 3 / 4 in the last; what counts empty rows is left out."""
    _, store, _ = turned()
    assert store.scores[6] == {"top1": 0.5, "loss": 5 * (4.5 + 0.75), "box": 0.75, "IoU/cat": 0.25}
    assert np.load(tmp_path / "report" / "precision_recall.npz")["precision"].tolist() == [1, 1]


def test_the_checkpoint_before_a_drop_of_the_learning_rate_is_saved_where_that_is_asked_for(turned):
    optimizer = AdamW(schedule=StepSchedule((1 / 3, 5 / 3)))
    assert turned(optimizer=optimizer)[1].saved == [2, 3, 4, 6]
    assert turned(optimizer=optimizer, keep_before_drops=True)[1].saved == [1, 2, 3, 4, 5, 6]


def test_a_step_in_parts_sees_the_images_of_the_whole(turned):
    (_, whole, _), (_, parts, _) = turned(), turned(micro_batches=2)
    assert (whole.parts, parts.parts) == ({1}, {2}) and parts.images == whole.images


def test_the_learning_rate_that_is_logged_is_that_of_the_step_that_was_made(turned):
    log = turned()[2]
    assert [log[step, "train"]["learning_rate"] for step in (2, 4, 6)] == [0.5, 0.125, 0.03125]


@pytest.mark.parametrize("until", [1, 3])
def test_a_signal_ends_a_run_after_its_step_with_a_checkpoint_and_without_scores(turned, until, capsys):
    step, store, log = turned(until=until)
    assert step == until and store.saved[-1] == until and store.scores == {} and (until, "train") in log
    assert f"stopped at step {until} of 6; the same command goes on" in capsys.readouterr().out


def test_a_run_that_was_ended_before_its_scores_has_them_first_and_goes_on_as_it_would_have(turned):
    _, store, log = turned(until=3)
    step, store, log = turned(start=3, store=store, log=log)
    assert step == 6 and store.saved == [2, 3, 4, 6] and list(store.scores) == [3, 6]
    assert list(log) == [(2, "train"), (3, "train"), (3, "val"), (4, "train"), (6, "train"), (6, "val")]


def test_a_run_that_goes_on_sees_the_images_that_it_would_have_seen(turned):
    whole, later = turned()[1].images, turned(start=4)[1].images
    assert [sorted(itertools.chain(*epoch)) for epoch in (whole[:3], whole[3:])] == [list(range(6))] * 2
    assert later == whole[4:] and later != whole[:2]


def test_a_run_at_its_end_does_nothing_more(turned):
    _, store, log = turned()
    saved, logged = list(store.saved), dict(log)
    step, store, log = turned(start=6, store=store, log=log)
    assert (step, store.saved, log) == (6, saved, logged)


def test_first_weights_from_elsewhere_are_saved_before_the_first_step(turned):
    assert turned(init_from="weights.pth")[1].saved == [0, 2, 3, 4, 6]
    assert turned(init_from="weights.pth", start=4)[1].saved == [6]


@pytest.fixture
def scored(turned, monkeypatch, tmp_path):
    """A run that scores every step, after which it logs into a real file; ended by a signal in a step."""

    def score(scores, *, start=0, until=None, **fields):
        def found(run, state, signals):
            return Found({"top1": scores[state - 1]}, Evaluation(Sweeping.scores, [], ()), None)

        monkeypatch.setattr(scoring, "evaluated", found)
        keeps = lambda run, store, workdir, step, scores, evaluation: store.annotate(step, scores)  # noqa: E731
        monkeypatch.setattr(verdict, "keep_validation", keeps)
        with MetricsLog(tmp_path) as log:
            log.truncate(start)
            return turned(start, until, kept, log, evaluate_every=1 / 3, **fields)[0]

    kept = Kept()
    return score


SCORES = [0.0, 0.0, 0.5, 0.4, 0.5, 0.9]


def test_a_run_whose_score_gets_no_better_ends_before_its_last_epoch(scored, capsys):
    assert scored(SCORES, patience=2) == 5
    said = capsys.readouterr().out
    assert "top1 has not been better in 2 evaluations, so the run ends at step 5 of 6; a larger --patience" in said
    assert "the same command" not in said
    assert scored(SCORES, start=5, patience=2) == 5  # and the same command ends it again
    assert scored(SCORES, start=5, patience=3) == 6


@pytest.mark.parametrize("until", [1, 3, 4, 5])
def test_a_run_that_was_ended_waits_no_longer_and_no_shorter(scored, until):
    assert scored(SCORES, until=until, patience=2) == until
    assert scored(SCORES, start=until, patience=2) == 5


def test_without_patience_a_run_goes_on(scored):
    assert scored([0.5] * 6) == 6


def test_every_size_is_announced_before_it_is_compiled(turned, capsys):
    turned()
    assert capsys.readouterr().err.splitlines()[0] == "compiling the step"


@pytest.mark.parametrize(("start", "said"), [(0, "before the first step of 6"), (4, "at step 4 of 6")])
def test_a_signal_while_the_step_is_compiled_is_answered_and_nothing_is_written(turned, start, said, capsys):
    ended = threading.Event()

    def compiling(signals):
        signals.append(15)
        ended.wait(20)

    began = time.monotonic()
    step, store, log = turned(start=start, compiling=compiling)
    assert time.monotonic() - began < 10
    ended.set()
    assert step == start and store.saved == [] and log == {} and f"stopped {said}" in capsys.readouterr().out


def test_a_signal_while_a_later_size_is_compiled_keeps_the_steps_before(turned, monkeypatch):
    """Of six steps each has a size of its own; the signal comes while the fifth is compiled."""
    ended, calls = threading.Event(), []

    def placed(batch, mesh):
        return types.SimpleNamespace(pixels=np.zeros(len(calls) + 1), records=batch.records)

    monkeypatch.setattr(loop, "place_batch", placed)

    def compiling(signals):
        calls.append(1)
        if len(calls) == 5:
            signals.append(2)
            ended.wait(20)

    step, store, log = turned(compiling=compiling, save_every=10, log_every=100, evaluate_every=10)
    ended.set()
    assert step == 4 and store.saved == [4] and list(log) == [(4, "train")]


def test_scores_that_a_signal_has_prevented_come_with_the_next_start(turned, monkeypatch):
    def evaluate(run, state, signals):
        signals.append(15)
        time.sleep(0.5)

    monkeypatch.setattr(scoring, "evaluated", evaluate)
    step, store, log = turned()
    assert step == 3 and store.saved[-1] == 3 and store.scores == {} and (3, "val") not in log


class Full(Kept):
    """A store on a disk that takes no checkpoint of some steps."""

    def __init__(self, *steps):
        super().__init__()
        self.refused = steps

    def save(self, step, state, *, notes):
        if step in self.refused:
            raise NoRoom("a checkpoint cannot be written to checkpoints: No space left on device")
        super().save(step, state, notes=notes)


def test_a_run_goes_on_where_the_disk_takes_no_checkpoint_and_says_from_where_it_could(turned, capsys):
    step, store, _ = turned(store=Full(2, 3))
    assert step == 6 and store.saved == [4, 6] and set(store.scores) == {6}
    told = capsys.readouterr()
    assert told.err.count("cannot be written: No space left on device; the run goes on") == 2
    turned(store=Full(6))
    assert "step 6 of 6 is not on disk; the same command goes on from step 4" in capsys.readouterr().out


def test_where_images_can_no_longer_be_read_the_steps_so_far_are_saved(turned, monkeypatch, capsys):
    def dying(*given, **options):
        yield from itertools.islice(batches(*given, **options), 5)
        raise WorkerDied("one of the 2 processes that read images was ended")

    monkeypatch.setattr(prepare, "batches", dying)
    store = Kept()
    with pytest.raises(WorkerDied):
        turned(store=store)
    assert store.saved[-1] == 5
    assert "stopped at step 5 of 6; the same command goes on from there" in capsys.readouterr().out


def test_images_that_cannot_be_read_beyond_their_share_end_the_run_and_are_not_told_again(turned, monkeypatch, capsys):
    monkeypatch.setattr(SOURCE, "broken", (1, 4))
    with pytest.raises(TooManyUnreadable, match="2 of 6 training images cannot be read"):
        turned()
    assert capsys.readouterr().err.count("cannot be read, and another image takes its place") == 2
    with pytest.raises(TooManyUnreadable, match="2 of 6 training images cannot be read"):
        turned()  # to begin again does not lift the limit
    step, _, _ = turned(max_unreadable=0.5)
    told = capsys.readouterr()
    assert step == 6 and "another image takes its place" not in told.err
    assert "2 training images could not be read and were replaced by others: 1.png, 4.png" in told.out
