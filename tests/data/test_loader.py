"""Batches: the same for any number of workers and hosts and after any restart, whatever is broken in the data."""

import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import cloudpickle
import jax
import numpy as np
import pytest

from vitjax.data import loader
from vitjax.data.digits import Digits
from vitjax.data.errors import DataError
from vitjax.data.loader import batches, load
from vitjax.data.plan import EvaluationPlan, TrainPlan
from vitjax.data.source import NO_LABEL, Sample
from vitjax.data.transforms import Augmentation, Resize
from vitjax.data.workers import WorkerDied
from vitjax.structs import Batch

AUGMENTATION = Augmentation(sizes=(40, 56), max_side=90, crop_sizes=(50, 60), crop_range=(30, 60))
BATCH = 4


class Pictures:
    """A source whose picture r is all of colour r + 1 and label r, with r % 4 objects; some cannot be read."""

    classes, problems, max_objects = None, (), 3

    def __init__(self, count, *, broken=(), mislisted=()):
        rng = np.random.default_rng(1)
        self.sizes = rng.integers(30, 90, (count, 2)).astype(np.int32)
        self.true_sizes = self.sizes.copy()
        self.true_sizes[list(mislisted)] += 1
        self.broken = broken
        self.image_ids = range(count)

    def __len__(self):
        return len(self.sizes)

    def name(self, record):
        return f"{record}.jpg"

    def ground_truth(self):
        return {}

    def __getitem__(self, record):
        if record in self.broken:
            raise DataError(f"{record}.jpg is not an image")
        height, width = (int(side) for side in self.true_sizes[record])
        image = np.full((height, width, 3), record + 1, np.uint8)
        boxes = np.tile(np.array([[0.0, 0.0, width, height]], np.float32), (record % 4, 1))
        return Sample(image, boxes, np.full(record % 4, record, np.int32), image[..., 0] - 1)


# Worker processes do not import this file; they are sent what it defines.
cloudpickle.register_pickle_by_value(sys.modules[__name__])


def equal(one, other):
    """Whether two batches are equal to the last bit, types included."""
    leaves = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(type(a) is type(b) and a.dtype == b.dtype and np.array_equal(a, b) for a, b in leaves)


def joined(parts: list[Batch]) -> Batch:
    """The batch of all hosts from the blocks of each."""
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)


@pytest.fixture(scope="module")
def source():
    return Pictures(22)


@pytest.fixture(scope="module")
def plan(source):
    return TrainPlan(source.sizes, BATCH, AUGMENTATION)


@pytest.fixture(scope="module")
def uninterrupted(source, plan):
    """Twelve steps of five an epoch, one after the other."""
    return list(batches(source, plan, max_objects=3, steps=12))


def test_a_batch_is_that_of_the_pure_function(source, plan, uninterrupted):
    assert len(uninterrupted) == 12
    assert all(equal(batch, load(source, plan(step), max_objects=3)) for step, batch in enumerate(uninterrupted))


def test_rows_hold_the_planned_images_on_black(source, plan, uninterrupted):
    for step, batch in enumerate(uninterrupted):
        planned = plan(step)
        assert batch.pixels.shape == (BATCH, *planned.bucket, 3) and batch.pixels.dtype == np.uint8
        assert np.array_equal(batch.sizes, planned.cuts.output)
        assert np.array_equal(batch.original_sizes, source.sizes[batch.records])
        for row, (height, width) in enumerate(batch.sizes):
            assert (batch.pixels[row, :height, :width] == batch.records[row] + 1).all()
            assert not batch.pixels[row, height:].any() and not batch.pixels[row, :, width:].any()


def test_targets_are_relative_to_the_image_and_padded_with_what_is_not_valid(uninterrupted):
    for batch in uninterrupted:
        counts = batch.targets.valid.sum(1)
        assert counts.tolist() == (batch.records % 4).tolist()
        # The picture's box covers all of it, and so does every part that is cut out of it.
        np.testing.assert_allclose(batch.targets.boxes, np.tile([0.5, 0.5, 1, 1], (BATCH, 3, 1)), atol=1e-6)
        assert (batch.targets.labels == np.where(batch.targets.valid, batch.records[:, None], 0)).all()


def test_label_maps_lie_on_their_images_and_padding_has_no_label(uninterrupted):
    for batch in uninterrupted:
        assert batch.label_maps.shape == batch.pixels.shape[:3] and batch.label_maps.dtype == np.uint8
        padding = (batch.pixels == 0).all(-1)
        assert (batch.label_maps == np.where(padding, NO_LABEL, batch.records[:, None, None])).all()


def test_a_source_without_label_maps_gives_batches_without(plan):
    scenes = Digits(train_images=4).open("train")
    batch = load(scenes, EvaluationPlan(scenes.sizes, 2, Resize(size=None))(0), max_objects=3)
    assert batch.label_maps is None


def test_leaves_are_plain_arrays_of_the_host(uninterrupted):
    assert all(type(leaf) is np.ndarray for leaf in jax.tree.leaves(uninterrupted[0]))


@pytest.mark.parametrize("start", [3, 5, 11])
def test_a_restart_goes_on_as_if_never_interrupted(source, plan, uninterrupted, start):
    resumed = list(batches(source, plan, max_objects=3, start_step=start, steps=12 - start))
    assert len(resumed) == 12 - start
    assert all(equal(a, b) for a, b in zip(resumed, uninterrupted[start:], strict=True))


@pytest.mark.parametrize("hosts", [2, 4])
def test_hosts_share_the_batch_of_one_host(source, plan, uninterrupted, hosts):
    shares = [batches(source, plan, max_objects=3, steps=7, host=host, hosts=hosts) for host in range(hosts)]
    for whole, *parts in zip(uninterrupted, *shares, strict=False):
        assert equal(whole, joined(parts))


def test_workers_give_the_same_batches_in_the_same_order_after_a_restart_too(source, plan, uninterrupted):
    with_workers = list(batches(source, plan, max_objects=3, start_step=2, steps=8, workers=2))
    assert len(with_workers) == 8
    assert all(equal(a, b) for a, b in zip(with_workers, uninterrupted[2:10], strict=True))


def test_training_goes_on_for_ever_and_can_be_left(source, plan, uninterrupted):
    endless = batches(source, plan, max_objects=3)
    assert all(equal(next(endless), batch) for batch in uninterrupted)
    endless.close()


def test_evaluation_ends_after_every_record(source):
    plan = EvaluationPlan(source.sizes, BATCH, Resize(size=40, max_side=80))
    records = np.concatenate([batch.records for batch in batches(source, plan, max_objects=3)])
    assert len(records) == 24 and sorted(records.tolist()) == [-1, -1, *range(22)]
    assert list(batches(source, plan, max_objects=3, start_step=9)) == []


def test_a_filling_row_is_black_and_as_large_as_the_bucket(source):
    plan = EvaluationPlan(source.sizes[:3], BATCH, Resize(size=40, max_side=80))
    batch = load(source, plan(0), max_objects=3)
    assert batch.records[3] == -1 and tuple(batch.sizes[3]) == tuple(batch.original_sizes[3]) == plan(0).bucket
    assert not batch.pixels[3].any() and not batch.targets.valid[3].any() and batch.broken[3] == -1


@pytest.mark.parametrize("fault", ["broken", "mislisted"])
def test_in_training_another_row_of_the_step_takes_the_place_of_a_broken_one(plan, fault):
    planned = plan(0)
    bad = Pictures(22, **{fault: tuple(planned.records[[1, 2]].tolist())})
    batch = load(bad, planned, max_objects=3)
    assert batch.records.tolist() == planned.records[[0, 3, 3, 3]].tolist()
    assert batch.broken.tolist() == [-1, *planned.records[[1, 2]].tolist(), -1]
    assert np.array_equal(batch.sizes, planned.cuts.output[[0, 3, 3, 3]])
    assert (
        np.array_equal(batch.pixels[1], batch.pixels[3]) and (batch.original_sizes[1] == batch.original_sizes[3]).all()
    )


def test_a_replacement_is_the_same_on_every_number_of_hosts(plan):
    planned = plan(0)
    bad = Pictures(22, broken=tuple(planned.records[[1, 3]].tolist()))
    parts = [load(bad, planned, max_objects=3, host=host, hosts=2) for host in range(2)]
    assert equal(load(bad, planned, max_objects=3), joined(parts))
    assert joined(parts).records.tolist() == planned.records[[0, 2, 2, 0]].tolist()


def test_a_training_step_without_a_readable_image_is_an_error_that_names_the_first(source, plan):
    first = plan(0).records[0]
    with pytest.raises(DataError, match=f"none of the 4 images .* the first: {first}.jpg is not an image"):
        list(batches(Pictures(22, broken=range(22)), plan, max_objects=3, steps=1))


def test_in_evaluation_a_broken_row_is_left_out_and_noted():
    bad = Pictures(6, broken=(2,), mislisted=(4,))
    plan = EvaluationPlan(bad.sizes, BATCH, Resize(size=40, max_side=80))
    parts = list(batches(bad, plan, max_objects=3))
    records, broken = (np.concatenate([getattr(part, name) for part in parts]) for name in ("records", "broken"))
    assert sorted(records[records >= 0].tolist()) == [0, 1, 3, 5] and sorted(broken[broken >= 0].tolist()) == [2, 4]


def test_too_many_objects_is_an_error_that_names_file_field_and_value_from_a_worker_too(source, plan):
    message = r"\d+.jpg has \d objects, but max_objects is 1; set max_objects to 3 or more"
    with pytest.raises(DataError, match=message):
        load(source, plan(0), max_objects=1)
    with pytest.raises(DataError, match=message):
        list(batches(source, plan, max_objects=1, steps=2, workers=1))


def test_too_little_shared_memory_for_workers_is_said_before_they_die_of_it(source, plan, monkeypatch, tmp_path):
    monkeypatch.setattr(loader, "_SHARED_MEMORY", tmp_path)
    monkeypatch.setattr(loader.shutil, "disk_usage", lambda path: SimpleNamespace(free=10_000))
    with pytest.raises(DataError, match=r"2 workers need up to .* free; use fewer workers, or .*--shm-size"):
        batches(source, plan, max_objects=3, workers=2)
    assert next(batches(source, plan, max_objects=3)).records.shape == (BATCH,)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"start_step": -1}, "start_step and workers are at least 0, got -1 and 0"),
        ({"workers": -2}, "got 0 and -2"),
        ({"host": 2, "hosts": 2}, "host 2 of 2"),
        ({"hosts": 3}, "batch_size 4 for 3 hosts"),
    ],
)
def test_arguments_that_cannot_be_are_refused_at_once(source, plan, arguments, message):
    with pytest.raises(ValueError, match=message):
        batches(source, plan, max_objects=3, **arguments)


PROGRAM = """
import os, signal, sys, time
from contextlib import closing
import numpy as np
from vitjax.data.loader import batches
from vitjax.data.plan import EvaluationPlan
from vitjax.data.source import Sample
from vitjax.data.transforms import Resize

class Black:
    sizes, max_objects = np.full((64, 2), 32, np.int32), 0
    def name(self, record):
        return "black"
    def __getitem__(self, record):
        print("worker", os.getpid(), "jax" in sys.modules, flush=True)
        return Sample(np.zeros((32, 32, 3), np.uint8), np.zeros((0, 4), np.float32), np.zeros(0, np.int32))

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever starts the tests in the background ignores it
    source = Black()
    ready = batches(source, EvaluationPlan(source.sizes, 1, Resize(size=None)), max_objects=1, workers=2)
    try:
        with closing(ready):
            print("starting", flush=True)
            for batch in ready:
                time.sleep(60)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
"""


def folders_of_batches() -> set[Path]:
    return set(Path("/dev/shm").glob("vitjax-*"))


@pytest.fixture
def folders_before():
    return folders_of_batches()


@pytest.fixture
def trainer(tmp_path, folders_before):
    """A program that reads with two workers, in a process group of its own as a shell starts it."""
    program = tmp_path / "train.py"
    program.write_text(PROGRAM)
    environment = {**os.environ, "PYTHONPATH": str(Path(loader.__file__).parents[2])}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, str(program)], env=environment, process_group=0, **pipes) as process:
        assert process.stdout.readline() == "starting\n"
        yield process


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /dev/shm")
@pytest.mark.parametrize("working", [False, True], ids=["while workers start", "while they read"])
def test_an_interrupt_ends_workers_without_a_word_and_leaves_nothing_behind(trainer, folders_before, working):
    if working:
        assert trainer.stdout.readline().startswith("worker")
    children = Path(f"/proc/{trainer.pid}/task/{trainer.pid}/children")
    for _ in range(1000):
        if len(children.read_text().split()) >= 3:  # the workers, and who keeps count of what they share
            break
        time.sleep(0.01)
    os.killpg(trainer.pid, signal.SIGINT)
    out, errors = trainer.communicate(timeout=30)
    assert out.endswith("interrupted\n") and errors == "" and trainer.returncode == 0
    assert folders_of_batches() <= folders_before


def test_a_worker_does_not_start_jax(trainer):
    assert trainer.stdout.readline().endswith("False\n")
    os.killpg(trainer.pid, signal.SIGINT)
    trainer.communicate(timeout=30)


@pytest.mark.skipif(sys.platform != "linux", reason="looks for the worker under /proc")
def test_workers_end_when_their_parent_is_killed(trainer, folders_before):
    worker = Path("/proc") / trainer.stdout.readline().split()[1]
    assert worker.exists()
    trainer.send_signal(signal.SIGKILL)
    for _ in range(100):
        gone = not worker.exists() or "Z" in (worker / "stat").read_text().split(")")[1]
        if gone and folders_of_batches() <= folders_before:
            return
        time.sleep(0.1)
    pytest.fail("the worker or its folder is still there ten seconds after its parent was killed")


class Deadly(Pictures):
    """Pictures of which one ends the process that reads it."""

    def __getitem__(self, record):
        if record == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(record)


def test_a_worker_that_is_killed_is_told_in_a_sentence_and_soon(plan, folders_before):
    began = time.monotonic()
    with pytest.raises(WorkerDied, match=r"^one of the 2 processes .* by SIGKILL, .* --workers 0 needs none\.$"):
        list(batches(Deadly(22), plan, max_objects=3, steps=12, workers=2))
    assert time.monotonic() - began < 20 and folders_of_batches() <= folders_before


def test_a_host_without_an_image_of_an_evaluation_step_has_label_maps_as_the_others_have_them():
    source = Pictures(3)
    step = EvaluationPlan(source.sizes[:2], 4, Resize(size=None, max_side=None))(0)
    parts = [load(source, step, max_objects=3, host=host, hosts=2) for host in range(2)]
    assert parts[1].records.tolist() == [-1, -1] and (parts[1].label_maps == NO_LABEL).all()
    assert equal(load(source, step, max_objects=3), joined(parts))


def test_of_a_step_without_a_readable_image_the_next_takes_the_place_for_any_workers_and_hosts(source, plan):
    planned = plan(1).records.tolist()
    bad = Pictures(22, broken=planned)
    whole = list(batches(bad, plan, max_objects=3, steps=3))
    assert whole[1].broken.tolist() == planned
    assert equal(dataclasses.replace(whole[1], broken=whole[2].broken), whole[2])
    assert all(map(equal, whole, batches(bad, plan, max_objects=3, steps=3, workers=1)))
    assert equal(whole[1], next(batches(bad, plan, max_objects=3, start_step=1)))
    parts = [next(batches(bad, plan, max_objects=3, start_step=1, host=host, hosts=2)) for host in range(2)]
    assert equal(whole[1], joined(parts))
