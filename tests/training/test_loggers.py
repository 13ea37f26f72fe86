"""W&B and MLflow, by modules that stand for them."""

import json
import sys
import types

import numpy as np
import pytest

from vitjax.data.digits import Digits
from vitjax.errors import FieldError, VitjaxError
from vitjax.tasks.detection import Detection
from vitjax.training.loggers import open_loggers
from vitjax.training.loop import train
from vitjax.training.report import MetricsLog

PICTURE = np.zeros((4, 6, 3), np.uint8)


class FakeWandB(types.SimpleNamespace):
    """What is asked of wandb."""

    def __init__(self):
        self.begun, self.logged, self.ended, self.metrics = [], [], [], []

    def init(self, **options):
        self.begun.append(options)
        define = lambda name, step_metric: self.metrics.append((name, step_metric))  # noqa: E731
        finish = lambda exit_code: self.ended.append(exit_code)  # noqa: E731
        return types.SimpleNamespace(log=self.logged.append, define_metric=define, finish=finish)

    def Image(self, picture):
        return ("picture", picture.shape)


class FakeMLflow(types.SimpleNamespace):
    """What is asked of mlflow."""

    def __init__(self):
        self.begun, self.metrics, self.params, self.images, self.ended = [], [], [], [], []

    def set_experiment(self, name):
        self.experiment = name

    def active_run(self):
        return None

    def start_run(self, *, run_id, run_name, nested):
        self.begun.append((run_id, run_name))
        return types.SimpleNamespace(info=types.SimpleNamespace(run_id=run_id or "abc"))

    def log_params(self, params):
        assert len(params) <= 100 and all(len(value) <= 500 for value in params.values())
        self.params.append(params)

    def log_metrics(self, metrics, step):
        self.metrics.append((step, metrics))

    def log_image(self, picture, file):
        self.images.append(file)

    def end_run(self, status):
        self.ended.append(status)


@pytest.fixture
def fakes(monkeypatch):
    """Both modules, new."""
    found = {"wandb": FakeWandB(), "mlflow": FakeMLflow()}
    for name, fake in found.items():
        monkeypatch.setitem(sys.modules, name, fake)
    for name in ("WANDB_PROJECT", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_ID", "MLFLOW_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    return found["wandb"], found["mlflow"]


def told(workdir, experiment, step):
    """A log with loggers that is told numbers and a picture at a step."""
    with MetricsLog(workdir, open_loggers(experiment, workdir)) as log:
        log.truncate(step)
        log.write(step, "val", {"AP": 0.5, "AP/mug: (red)": 0.25, "AR": float("nan")})
        log.image(step, "val/predictions", PICTURE)


def test_both_are_given_numbers_and_pictures_and_a_run_that_goes_on_goes_on_there(fakes, tmp_path):
    wandb, mlflow = fakes
    (workdir := tmp_path / "run").mkdir()
    experiment = Detection(loggers=("wandb", "mlflow"))
    told(workdir, experiment, 3)
    told(workdir, experiment, 5)
    kept = json.loads((workdir / "loggers.json").read_text())
    assert [begun["id"] for begun in wandb.begun] == [kept["wandb"]] * 2 and wandb.begun[1]["resume"] == "allow"
    assert wandb.begun[0]["config"]["batch_size"] == 16 and wandb.begun[0]["name"] == "run"
    assert wandb.metrics[0] == ("*", "step")
    assert wandb.logged[:2] == [
        {"step": 3, "val/AP": 0.5, "val/AP/mug: (red)": 0.25},
        {"step": 3, "val/predictions": ("picture", (4, 6, 3))},
    ]
    assert wandb.ended == [0, 0]
    assert mlflow.begun == [(None, "run"), ("abc", None)] and mlflow.experiment == "vitjax"
    assert mlflow.metrics[1] == (5, {"val/AP": 0.5, "val/AP/mug_ _red_": 0.25})
    assert mlflow.images == ["val/predictions/00000003.png", "val/predictions/00000005.png"]
    assert {name: value for part in mlflow.params for name, value in part.items()}[
        "optimizer.learning_rate"
    ] == "0.0001"
    assert mlflow.ended == ["FINISHED"] * 2


def test_a_failure_there_is_told_once_and_the_runs_own_files_go_on(fakes, tmp_path, capsys):
    wandb, mlflow = fakes

    def fail(*_, **__):
        raise ConnectionError("no network\nlong story")

    mlflow.log_metrics = fail
    with MetricsLog(tmp_path, open_loggers(Detection(loggers=("mlflow", "wandb")), tmp_path)) as log:
        log.write(1, "val", {"AP": 0.5})
        log.write(2, "val", {"AP": 0.6})
    assert capsys.readouterr().out == "note: MLflow takes no more of this run (no network); its own files go on\n"
    assert len(wandb.logged) == 2 and mlflow.ended == []
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 2


def test_an_error_of_the_run_ends_it_as_failed_there(fakes, tmp_path):
    wandb, _ = fakes
    with pytest.raises(ZeroDivisionError), MetricsLog(tmp_path, open_loggers(Detection(loggers=("wandb",)), tmp_path)):
        raise ZeroDivisionError
    assert wandb.ended == [1]


def test_a_run_that_cannot_be_begun_there_is_one_line(fakes, tmp_path):
    fakes[0].init = lambda **_: 1 / 0
    with pytest.raises(VitjaxError, match=r"^W&B cannot begin a run: division by zero$"):
        open_loggers(Detection(loggers=("wandb",)), tmp_path)


@pytest.mark.parametrize("module", [None, types.ModuleType("wandb")], ids=["nothing", "folder of that name"])
def test_a_package_that_is_missing_is_told_before_anything_is_read(module, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", module)
    monkeypatch.setattr(Digits, "open", lambda *_: pytest.fail("data were opened"))
    with pytest.raises(FieldError, match=r"W&B is not installed: pip install wandb, or leave out --loggers wandb"):
        train(Detection(data=Digits(), loggers=("wandb",)), tmp_path / "run")
    assert not (tmp_path / "run").exists()
