import contextlib
import dataclasses
import errno
import json
import multiprocessing
import os
import shutil
import signal

import pytest

from vitjax.data.coco import CocoFolder
from vitjax.data.digits import Digits
from vitjax.data.errors import DataError
from vitjax.data.source import Classes, Limits
from vitjax.data.tfds import TfdsCoco
from vitjax.detection.deformable_detr import DeformableDETR
from vitjax.detection.detr import DETR
from vitjax.detection.focal_loss import FocalSetLoss
from vitjax.detection.postprocess import TopDetections
from vitjax.runs.identity import MAY_CHANGE, class_differences, differences
from vitjax.runs.open_run import AnotherRun, open_run
from vitjax.runs.optimizer import AdamW, CosineSchedule, StepSchedule
from vitjax.runs.run_folder import RunInUse, locked, read_run, write_run
from vitjax.runs.serialize import NoExperiment, to_json
from vitjax.tasks.detection import Detection

CLASSES = Classes(("cat", "dog"), (3, 5))
EXPERIMENT = Detection(model=DETR(num_classes=2), batch_size=4)


def content(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def run(tmp_path):
    """A run folder with the trace of a checkpoint."""
    write_run(tmp_path / "run", EXPERIMENT, CLASSES)
    (tmp_path / "run" / "checkpoints" / "8").mkdir(parents=True)
    return tmp_path / "run"


OTHERS = {
    "seed": ({"seed": 1}, "seed: 0 there, 1 now"),
    "learning rate": ({"optimizer": AdamW(learning_rate=0.5)}, r"optimizer\.learning_rate: 0\.0001 there, 0\.5 now"),
    "schedule": (
        {"optimizer": AdamW(schedule=CosineSchedule())},
        r"optimizer\.schedule: StepSchedule .*CosineSchedule",
    ),
    "drops": (
        {"optimizer": AdamW(schedule=StepSchedule((9.0,)))},
        r"optimizer\.schedule\.drop_epochs: \[200\] .*\[9\.0\]",
    ),
    "multipliers": (
        {"optimizer": AdamW(multipliers={"class": 2.0})},
        r'optimizer\.multipliers: \{\} there, \{"class": 2',
    ),
    "channels": ({"model": DETR(num_classes=2, channels=32)}, r"model\.channels: 256 there, 32 now"),
    "batch": ({"batch_size": 8}, "batch_size: 4 there, 8 now"),
    "average": ({"average": 0.9}, r"average: null there, 0\.9 now"),
    "data": ({"data": Digits()}, "data: CocoFolder there, Digits now"),
    "weights": ({"init_from": "detr.pth"}, 'init_from: null there, "detr.pth" now'),
    "precision": ({"matmul_precision": "high"}, 'matmul_precision: "default" there, "high" now'),
    "model": (
        {"model": DeformableDETR(num_classes=2), "loss": FocalSetLoss(), "postprocess": TopDetections()},
        "model: DETR there, DeformableDETR now",
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_another_experiment_is_refused_with_old_and_new_and_leaves_the_folder_as_it_was(run, name):
    fields, line = OTHERS[name]
    before = content(run)
    with (
        pytest.raises(AnotherRun, match=line) as caught,
        open_run(run, dataclasses.replace(EXPERIMENT, **fields), CLASSES),
    ):
        pytest.fail("it was opened")
    assert "another --workdir" in str(caught.value) and "--fork" in str(caught.value)
    assert content(run) == before


def test_every_difference_is_listed(run):
    other = dataclasses.replace(EXPERIMENT, seed=1, batch_size=8, optimizer=AdamW(learning_rate=0.5, b1=0.5))
    with pytest.raises(AnotherRun) as caught, open_run(run, other, CLASSES):
        pass
    lines = [line.split(":")[0].strip() for line in str(caught.value).splitlines()[1:-1]]
    assert lines == ["optimizer.learning_rate", "optimizer.b1", "batch_size", "seed"]


CHANGES = {
    "epochs": 3,
    "least_steps": 5,
    "workers": 2,
    "log_every": 7,
    "log_images": 0,
    "loggers": ("mlflow",),
    "patience": 4,
    "evaluate_every": 2,
    "save_every": 0.5,
    "keep_last": 3,
    "keep_best": 0,
    "keep_before_drops": True,
    "best": "AP50",
    "micro_batches": 2,
    "evaluation_batch_size": 2,
    "workdir": "elsewhere",
    "pretrained": "the weights of somebody",
    "from_scratch": True,
    "max_unreadable": 0.5,
    "skip_non_finite": 3,
    "fsdp": True,
}


def test_how_long_a_run_goes_and_what_is_kept_and_told_may_change(run):
    assert CHANGES.keys() == {name for name in MAY_CHANGE if not name.startswith("data.limits")}
    changed = dataclasses.replace(EXPERIMENT, **CHANGES)
    with open_run(run, changed, CLASSES) as opened:
        assert read_run(run)[0] == EXPERIMENT  # nothing is written before it is said
        opened.record()
    assert read_run(run) == (dataclasses.replace(changed, from_scratch=False), CLASSES)  # how it began stays


def test_what_data_may_ask_of_the_machine_may_change_and_runs_from_before_there_were_limits_go_on():
    limits = (Limits(), Limits(1, 2, True))
    one, other = (to_json(dataclasses.replace(EXPERIMENT, data=CocoFolder("/x", limits=each))) for each in limits)
    assert one != other and differences(one, other) == []
    older = one | {"data": {name: value for name, value in one["data"].items() if name != "limits"}}
    assert differences(older, other) == []


def test_each_field_that_is_compared_makes_another_run():
    names = {field.name for field in dataclasses.fields(Detection)} - MAY_CHANGE
    content = to_json(dataclasses.replace(EXPERIMENT, init_from="detr.pth"))
    for name in names:
        assert [line.split(":")[0] for line in differences(content, content | {name: "other"})] == [name]


def test_the_source_of_the_first_weights_may_be_left_out_later(run):
    started = dataclasses.replace(EXPERIMENT, init_from="gone.pth", match_classes=True, from_scratch=True)
    write_run(run, started, CLASSES)
    with open_run(run, EXPERIMENT, CLASSES) as opened:
        opened.record()
    assert read_run(run)[0] == started
    with (
        pytest.raises(AnotherRun, match="init_from"),
        open_run(run, dataclasses.replace(started, init_from="b"), CLASSES),
    ):
        pass


@pytest.mark.parametrize(
    "other, line",
    [
        (Classes(("cat", "red"), (3, 5)), r"label 1: 'dog' \(id 5\) there, 'red' \(id 5\) now"),
        (Classes(("dog", "cat"), (3, 5)), r"label 0: 'cat' \(id 3\) there, 'dog' \(id 3\) now"),
        (Classes(("cat", "dog"), (3, 6)), r"label 1: 'dog' \(id 5\) there, 'dog' \(id 6\) now"),
        (Classes(("cat",), (3,)), r"label 1: 'dog' \(id 5\) there, nothing now"),
    ],
    ids=["names", "order", "ids", "number"],
)
def test_other_classes_in_the_data_are_another_run(run, other, line):
    before = content(run)
    with pytest.raises(AnotherRun, match=line), open_run(run, EXPERIMENT, other):
        pass
    assert content(run) == before


def test_a_long_list_of_other_classes_is_cut():
    old, new = (Classes(tuple(f"{word} {i}" for i in range(80)), tuple(range(80))) for word in ("old", "new"))
    assert class_differences(old, new)[-1] == "... and 75 more labels"
    assert class_differences(old, old) == []


def test_a_folder_without_a_checkpoint_takes_any_experiment(run):
    shutil.rmtree(run / "checkpoints")
    other = dataclasses.replace(EXPERIMENT, seed=1)
    with open_run(run, other, CLASSES) as opened:
        opened.record()
    assert read_run(run)[0] == other


def test_a_folder_whose_experiment_cannot_be_read_is_refused_by_name(run):
    (run / "experiment.json").write_text("")
    with (
        pytest.raises(DataError, match=r"experiment\.json cannot be read: it is empty"),
        open_run(run, EXPERIMENT, CLASSES),
    ):
        pass


def test_a_run_of_an_earlier_version_goes_on(run):
    file = run / "experiment.json"
    old = file.read_text().replace("vitjax.tasks.detection.Detection", "vitjax.training.experiment.Experiment")
    stored = json.loads(old.replace("vitjax.runs.optimizer", "vitjax.training.optimizer"))
    assert stored["experiment"]["class"] == "vitjax.training.experiment.Experiment"
    stored["experiment"] |= {"erasing": None, "mixing": None}  # which only classifiers have today
    del stored["experiment"]["match_classes"]  # which that version did not have
    file.write_text(json.dumps(stored))
    with open_run(run, EXPERIMENT, CLASSES) as opened:
        opened.record()
    assert read_run(run)[0] == EXPERIMENT


def of_data(root, **fields):
    return dataclasses.replace(EXPERIMENT, data=CocoFolder(root=str(root)), **fields)


def test_data_are_kept_by_an_absolute_path_and_found_from_another_working_directory(tmp_path, monkeypatch):
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path)
    with open_run(tmp_path / "run", of_data("mine"), CLASSES) as opened:
        opened.record()
    assert read_run(tmp_path / "run")[0].data.root == str(tmp_path / "mine")
    tfds = dataclasses.replace(EXPERIMENT, data=TfdsCoco(data_dir="mine"))
    with open_run(tmp_path / "other", tfds, CLASSES) as opened:
        assert opened.experiment.data.data_dir == str(tmp_path / "mine")


@pytest.mark.parametrize("stored", ["mine", "{}/mine", "{}/gone/mine"], ids=str)
def test_data_under_another_name_of_their_place_and_data_that_have_moved_are_the_same_run(run, tmp_path, stored):
    (tmp_path / "mine").mkdir()
    write_run(run, of_data(stored.format(tmp_path)), CLASSES)
    with open_run(run, of_data(tmp_path / "mine"), CLASSES):
        pass


def test_other_data_than_those_that_are_still_there_are_another_run(run, tmp_path):
    for name in ("mine", "other"):
        (tmp_path / name).mkdir()
    write_run(run, of_data(tmp_path / "mine"), CLASSES)
    with pytest.raises(AnotherRun, match=r"data\.root: .*mine.* there, .*other"):
        with open_run(run, of_data(tmp_path / "other"), CLASSES):
            pass


def test_a_class_that_nobody_could_find_again_is_refused_before_the_first_step(tmp_path):
    class Mine(DETR):
        pass

    mine = dataclasses.replace(EXPERIMENT, model=Mine(num_classes=2))
    with pytest.raises(ValueError, match=r"<locals>\.Mine could not be found again; define it at the top level"):
        with open_run(tmp_path / "run", mine, CLASSES):
            pass
    assert not (tmp_path / "run").exists()


def test_a_run_that_another_process_has_begun_meanwhile_is_refused(tmp_path, monkeypatch):
    @contextlib.contextmanager
    def late(folder):
        write_run(folder, dataclasses.replace(EXPERIMENT, seed=1), CLASSES)
        (folder / "checkpoints" / "8").mkdir(parents=True)
        yield

    monkeypatch.setattr("vitjax.runs.open_run.locked", late)
    with pytest.raises(AnotherRun, match="seed: 1 there, 0 now"), open_run(tmp_path / "run", EXPERIMENT, CLASSES):
        pytest.fail("it was opened")


def hold(folder, opened, end):
    with locked(folder):
        opened.set()
        end.wait(60)


def test_a_second_process_is_refused_while_the_first_lives_and_not_after_it_was_killed(run):
    spawn = multiprocessing.get_context("spawn")
    opened, end = spawn.Event(), spawn.Event()
    first = spawn.Process(target=hold, args=(run, opened, end))
    first.start()
    try:
        assert opened.wait(60)
        before = content(run)
        with pytest.raises(RunInUse, match=rf"is being trained by process {first.pid} on") as caught:
            with open_run(run, EXPERIMENT, CLASSES):
                pass
        assert "\n" not in str(caught.value)
        assert content(run) == before
    finally:
        first.kill()
        first.join()
    assert first.exitcode == -signal.SIGKILL
    with open_run(run, EXPERIMENT, CLASSES):
        pass


def test_a_part_that_could_not_be_read_again_is_refused_before_the_first_step(tmp_path):
    odd = dataclasses.replace(EXPERIMENT, data=AdamW())
    with pytest.raises(NoExperiment, match=r"experiment\.data must be a CocoFolder or .*; got 'AdamW'"):
        with open_run(tmp_path / "run", odd, CLASSES):
            pass
    assert not (tmp_path / "run").exists()


def test_a_file_system_without_locks_is_told_and_the_run_goes_on(tmp_path, monkeypatch, capsys):
    def unknown(*_):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr("fcntl.flock", unknown)
    with locked(tmp_path):
        assert (tmp_path / "lock").read_text().startswith(f"process {os.getpid()} on")
    assert "cannot be locked: Function not implemented; let no second run" in capsys.readouterr().err
