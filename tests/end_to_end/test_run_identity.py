"""A run that cannot be falsified: what goes on is the run that was there, and what is refused leaves all as it was."""

import dataclasses
import gc
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import textwrap

import jax
import numpy as np
import pytest
from faults.kills import run as run_for

import vitjax
from vitjax.checkpoints.paths import flatten
from vitjax.checkpoints.store import Store
from vitjax.commands.main import main, train
from vitjax.runs.initial import read_weights
from vitjax.runs.run_folder import locked, read_run
from vitjax.training import loop, scoring
from vitjax.training.report import MetricsLog, read_metrics

CONFIG = '''"""A detector of a few thousand parameters on eight scenes: two steps an epoch."""

from vitjax.backbones.resnet import ResNet
from vitjax.data.digits import Digits
from vitjax.data.transforms import Augmentation, Resize
from vitjax.detection.detr import DETR
from vitjax.tasks.detection import Detection
from vitjax.runs.optimizer import AdamW


def experiment():
    return Detection(
        model=DETR(
            backbone=ResNet(depth=18, width=4, stage_blocks=(1,), norm="group"),
            num_queries=5, channels=16, heads=2, encoder_layers=1, decoder_layers=1, feed_forward=16,
        ),
        data=Digits(train_images=8, val_images=2),
        augmentation=Augmentation(sizes=(), max_side=None, crop=0.0),
        resize=Resize(size=None, max_side=None),
        optimizer=AdamW(learning_rate=1e-3, multipliers={"class": 2.0}),
        epochs=2, batch_size=4, log_every=1,
    )
'''


def content(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def lines(workdir):
    """The lines of metrics that a run must have once each, with their values."""
    return [(entry["step"], entry["split"], entry.get("loss", entry.get("AP"))) for entry in read_metrics(workdir)]


def state_of(workdir, step):
    with Store(workdir / "checkpoints") as store:
        state = store.restore_subtree(step, "")
    return {path: leaf for path, leaf in flatten(state).items() if path != "key"}


def assert_same_run(found, wanted, step=4):
    assert lines(found) == lines(wanted)
    mine, theirs = state_of(found, step), state_of(wanted, step)
    assert mine.keys() == theirs.keys()
    for path in mine:
        np.testing.assert_array_equal(mine[path], theirs[path], err_msg=path)


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    file = tmp_path_factory.mktemp("config") / "tiny.py"
    file.write_text(CONFIG)
    return str(file)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, config):
    """A run of two epochs that nothing interrupted."""
    workdir = tmp_path_factory.mktemp("whole") / "run"
    assert train([config, "--workdir", str(workdir)]) == 0
    return workdir


@pytest.fixture
def run(whole, tmp_path):
    """A copy of it that a test may spoil."""
    return shutil.copytree(whole, tmp_path / "run")


def refused(words, run, capsys):
    """What is said where the command is refused, once it is sure that nothing was touched."""
    before = content(run)
    capsys.readouterr()
    assert train(words) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and "Traceback" not in error
    assert content(run) == before
    return error


OTHERS = {
    "channels": (["--model.channels", "32"], ["model.channels: 16 there, 32 now"]),
    "seed": (
        ["--seed", "1", "--optimizer.learning-rate", "0.5"],
        ["seed: 0 there, 1 now", "optimizer.learning_rate: 0.001 there, 0.5 now"],
    ),
    "batch": (["--epochs", "4", "--batch-size", "8"], ["batch_size: 4 there, 8 now"]),
    "data": (["--data.train-images", "16"], ["data.train_images: 8 there, 16 now"]),
}


@pytest.mark.parametrize("name", OTHERS)
def test_another_experiment_in_the_folder_of_a_run_is_refused_and_the_run_stays_usable(name, config, run, capsys):
    words, wanted = OTHERS[name]
    error = refused([config, "--workdir", str(run), *words], run, capsys)
    assert all(line in error for line in wanted) and "--workdir" in error and "--fork" in error
    assert vitjax.load(run)(np.zeros((64, 64, 3), np.uint8)).boxes.shape[1] == 4


def test_other_classes_in_the_data_are_refused(config, run, capsys, monkeypatch):
    from vitjax.data.digits import Digits
    from vitjax.data.source import Classes

    red = Classes(("red", *(str(digit) for digit in range(1, 10))), tuple(range(1, 11)))
    opened = Digits.open
    monkeypatch.setattr(Digits, "open", lambda *given: dataclasses.replace(opened(*given), classes=red))
    error = refused([config, "--workdir", str(run), "--epochs", "3"], run, capsys)
    assert "label 0: '0' (id 1) there, 'red' (id 1) now" in error


def test_a_folder_that_another_process_trains_into_is_refused(config, run, capsys):
    with locked(run):
        error = refused([config, "--workdir", str(run), "--epochs", "3"], run, capsys)
    assert "is being trained by process" in error and error.count("\n") == 1


def test_a_run_whose_only_checkpoint_lost_its_record_does_not_begin_anew(config, run, capsys):
    step = max(int(path.name) for path in (run / "checkpoints").iterdir())
    (run / "checkpoints" / str(step) / "record" / "record.json").unlink()
    for path in (run / "checkpoints").iterdir():
        if path.name != str(step):
            shutil.rmtree(path)
    with pytest.warns(UserWarning, match=f"passing over step {step}"):
        error = refused([config, "--workdir", str(run), "--epochs", "3"], run, capsys)
    assert "are damaged" in error and "remove them to begin anew" in error


@pytest.mark.parametrize(
    "words, message",
    [
        (["--log-every", "0"], "log_every must be a whole number, at least 1; got 0"),
        (["--epochs", "-1"], "epochs must be a number above 0; got -1"),
        (["--evaluate-every", "0"], "evaluate_every must be a number above 0; got 0"),
        (["--optimizer.learning-rate", "nan"], "learning_rate must be a number, at least 0; got nan"),
        (["--best", "ap"], "Did you mean AP?"),
    ],
    ids=lambda each: each[0] if isinstance(each, list) else "",
)
def test_a_number_or_name_that_means_nothing_ends_before_anything_is_made(words, message, config, tmp_path, capsys):
    try:
        code = train([config, "--workdir", str(tmp_path / "run"), *words])
    except SystemExit as left:  # tyro says it of what it makes itself
        code = left.code
    assert code != 0
    said = capsys.readouterr()
    assert message in " ".join((said.err + said.out).replace("│", " ").split())
    assert not (tmp_path / "run").exists()


def once(monkeypatch, owner, name, error):
    """Lets a method fail when it is first called."""
    right = getattr(owner, name)

    def failing(*arguments, **options):
        monkeypatch.setattr(owner, name, right)
        raise error

    monkeypatch.setattr(owner, name, failing)


class Killed(BaseException):
    """Stands for a kill at a certain place."""


@pytest.mark.parametrize("owner, name", [(scoring, "evaluated"), (Store, "annotate")], ids=["evaluate", "annotate"])
def test_a_run_that_ends_before_its_scores_are_kept_has_lost_nothing(owner, name, config, whole, tmp_path, monkeypatch):
    words = [config, "--workdir", str(tmp_path / "run")]
    once(monkeypatch, owner, name, Killed())
    with pytest.raises(Killed):
        train(words)
    with Store(tmp_path / "run" / "checkpoints") as store:
        assert (store.steps(), store.metrics(2)) == ((2,), {})
    assert train(words) == 0
    assert_same_run(tmp_path / "run", whole)


def test_scores_are_logged_once_also_where_a_run_ended_between_the_checkpoint_and_the_log(
    config, whole, tmp_path, monkeypatch
):
    words, write = [config, "--workdir", str(tmp_path / "run")], MetricsLog.write

    def killed(log, step, split, values):
        if split == "val":
            raise Killed
        write(log, step, split, values)

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(MetricsLog, "write", killed)
        train(words)
    with monkeypatch.context() as patched:
        patched.setattr(scoring, "evaluated", lambda *_: pytest.fail("it was scored already"))
        assert train([*words, "--epochs", "1"]) == 0
    assert train(words) == 0
    assert_same_run(tmp_path / "run", whole)


def test_a_kill_at_any_moment_loses_nothing(config, whole, tmp_path):
    words = [config, "--workdir", str(tmp_path / "run")]
    run_for(words, random.uniform(0.5, 4))  # tests/faults has many of them
    assert train(words) == 0
    assert_same_run(tmp_path / "run", whole)


def test_a_kill_during_the_evaluation_leaves_the_checkpoint(config, tmp_path):
    script = """
        import os, signal, sys
        import jax
        jax.config.update("jax_num_cpu_devices", 2)
        jax.config.update("jax_disable_most_optimizations", True)
        from vitjax.commands.main import train
        from vitjax.training import scoring
        scoring.evaluated = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        train(sys.argv[1:])
    """
    words = [config, "--workdir", str(tmp_path / "run")]
    ended = subprocess.run([sys.executable, "-c", textwrap.dedent(script), *words], capture_output=True, timeout=300)
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()
    with Store(tmp_path / "run" / "checkpoints") as store:
        assert store.steps() == (2,)
    assert train(words) == 0
    assert [(step, split) for step, split, _ in lines(tmp_path / "run")] == [
        (1, "train"),
        (2, "train"),
        (2, "val"),
        (3, "train"),
        (4, "train"),
        (4, "val"),
    ]


@pytest.mark.parametrize(
    "number, at", [(signal.SIGTERM, 1), (signal.SIGINT, 1), (signal.SIGTERM, 2)], ids=["SIGTERM", "SIGINT", "scored"]
)
def test_a_signal_ends_the_run_with_a_checkpoint_from_which_it_goes_on(
    number, at, config, whole, tmp_path, monkeypatch, capsys
):
    words, place, steps = [config, "--workdir", str(tmp_path / "run")], loop.place_batch, []

    def signalled(*given):
        steps.append(given)
        if len(steps) == at:
            os.kill(os.getpid(), number)
        return place(*given)

    with monkeypatch.context() as patched:
        patched.setattr(loop, "place_batch", signalled)
        assert train(words) == 128 + number
    assert f"stopped at step {at} of 4" in capsys.readouterr().out
    assert (tmp_path / "run" / "report").exists() == (number == signal.SIGINT)  # SIGTERM leaves no time for it
    assert train(words) == 0
    assert f"goes on from step {at}" in capsys.readouterr().out
    assert_same_run(tmp_path / "run", whole)


def test_a_resumed_run_holds_no_state_beside_the_one_that_it_goes_on_from(config, tmp_path, monkeypatch):
    held, evaluate = [], scoring.evaluated

    def measured(run, state, signals):
        gc.collect()
        held.append(sum(array.nbytes for array in jax.live_arrays()))
        return evaluate(run, state, signals)

    monkeypatch.setattr(scoring, "evaluated", measured)
    gc.collect()
    before = sum(array.nbytes for array in jax.live_arrays())
    assert train([config, "--workdir", str(tmp_path / "run"), "--epochs", "1"]) == 0
    gc.collect()
    between = sum(array.nbytes for array in jax.live_arrays())
    assert train([config, "--workdir", str(tmp_path / "run"), "--epochs", "2"]) == 0
    fresh, resumed = held[0] - before, held[1] - between
    assert 0 < resumed <= 1.01 * fresh


def test_a_run_goes_on_without_the_weights_that_it_started_from(config, run, tmp_path, capsys):
    source = run.rename(tmp_path / "source")
    words = [config, "--workdir", str(tmp_path / "run"), "--seed", "3", "--epochs", "0.5"]
    assert train([*words, "--init-from", str(source)]) == 0
    assert "taken from" in capsys.readouterr().out
    shutil.rmtree(source)
    assert train([*words, "--init-from", str(source), "--epochs", "1"]) == 0
    assert train([*words, "--epochs", "1.5"]) == 0
    assert read_run(tmp_path / "run")[0].init_from == str(source)


def test_a_fork_starts_a_new_run_from_the_weights_of_the_old_one(config, run, capsys):
    before = content(run)
    other = ["--optimizer.learning-rate", "0.0", "--optimizer.weight-decay", "0.0", "--seed", "5", "--epochs", "0.5"]
    assert train([config, "--workdir", str(run), "--fork", *other]) == 0
    new = run.with_name("run-2")
    assert f"starts {new} from {run / 'checkpoints' / '4'}" in capsys.readouterr().out
    assert content(run) == before
    assert read_run(new)[0].seed == 5
    old, forked = flatten(state_of_latest(run)), flatten(read_weights(new).variables)
    assert old.keys() == forked.keys()
    for path in old:  # nothing was learned at a learning rate of 0
        np.testing.assert_array_equal(old[path], forked[path], err_msg=path)
    assert train([config, "--workdir", str(new), *other[:-1], "1"]) == 0
    assert "goes on from step 1" in capsys.readouterr().out
    assert train([config, "--workdir", str(new), "--fork", str(run), *other]) == 1
    assert "is there already" in capsys.readouterr().err


def state_of_latest(run):
    return read_weights(run / "checkpoints" / "4").variables


@pytest.mark.parametrize("command", ["load", "predict", "evaluate", "train"])
@pytest.mark.parametrize("place", ["model", "experiment"])
@pytest.mark.parametrize(
    "attack",
    [
        {"class": "vitjax.training.configs.load_config", "name": "evil.py"},
        {"class": "vitjax.runs.configs.load_config", "name": "evil.py"},
        {"class": "vitjax.commands.main.main", "arguments": ["train", "evil.py"]},
    ],
    ids=["once", "config", "main"],
)
def test_the_folder_of_a_run_runs_no_code(attack, place, command, config, run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil.py").write_text("open('ran', 'w')\n")
    stored = json.loads((run / "experiment.json").read_text())
    if place == "model":
        stored["experiment"]["model"] = attack
    else:
        stored["experiment"] = attack
    (run / "experiment.json").write_text(json.dumps(stored))
    if command == "load":
        with pytest.raises(ValueError, match=r"experiment\.json cannot be read"):
            vitjax.load(run)
    else:
        picture = tmp_path / "picture.png"
        picture.write_bytes(b"")
        words = {
            "predict": ["predict", str(run), str(picture), "--out", "out"],
            "evaluate": ["evaluate", str(run)],
            "train": ["train", config, "--workdir", str(run)],
        }
        assert main(words[command]) == 1
        error = capsys.readouterr().err
        assert "experiment.json cannot be read" in error and "Traceback" not in error
    assert not (tmp_path / "ran").exists()
