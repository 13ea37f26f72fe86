"""A run with classes of its user's own: it trains, and is used later with the user's word for its config."""

import json
import sys

import cv2
import numpy as np
import pytest

import vitjax
from vitjax.commands.main import main, train
from vitjax.runs.serialize import CONFIG as PREFIX
from vitjax.runs.serialize import UnknownClass

CONFIG = '''"""A detector with a backbone, a loss and data of its user's own."""

from dataclasses import dataclass
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from vitjax.backbones.resnet import ResNet
from vitjax.data.digits import Digits
from vitjax.data.transforms import Augmentation, Resize
from vitjax.detection.detr import DETR
from vitjax.detection.loss import SetLoss
from vitjax.tasks.detection import Detection


class Own(nn.Module):
    """Attention of a kind that vitjax does not have."""

    place: ClassVar[str] = "branch"

    width: int = 4
    wrong: bool = False

    @nn.compact
    def __call__(self, x, valid, *, train=False):
        if self.wrong:
            jnp.stack([x, x[:, 1:]])
        return x + nn.Dense(x.shape[-1])(jax.nn.relu(nn.Dense(self.width)(x)))


@dataclass(frozen=True)
class OwnLoss(SetLoss):
    """A set loss that is told apart from others by its class."""

    sharpness: float = 2.0


@dataclass(frozen=True)
class OwnData:
    """Digit scenes that go through code of the config in whatever process reads them."""

    train_split: str = "train"
    split: str = "val"

    def open(self, split):
        return Digits(train_images=8, val_images=2).open(split)


def experiment():
    return Detection(
        model=DETR(
            backbone=ResNet(
                depth=18, width=4, stage_blocks=(1,), norm="group", attention=Own(width=3), attention_stages=(1,)
            ),
            num_queries=5, channels=16, heads=2, encoder_layers=1, decoder_layers=1, feed_forward=16,
        ),
        data=OwnData(),
        augmentation=Augmentation(sizes=(), max_side=None, crop=0.0),
        resize=Resize(size=None, max_side=None),
        loss=OwnLoss(sharpness=3.0),
        epochs=0.5, batch_size=4, log_every=1,
    )
'''


@pytest.fixture(autouse=True)
def strangers(monkeypatch):
    """Every test begins as a new process does: no config of a user's is loaded."""
    for name in [name for name in sys.modules if name.startswith(PREFIX)]:
        monkeypatch.delitem(sys.modules, name)


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    file = tmp_path_factory.mktemp("config") / "plug.py"
    file.write_text(CONFIG)
    return str(file)


@pytest.fixture(scope="module")
def run(config, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "run"
    assert train([config, "--workdir", str(workdir), "--workers", "1"]) == 0
    return workdir


@pytest.fixture
def commands(run, config, tmp_path):
    cv2.imwrite(str(tmp_path / "picture.png"), np.zeros((64, 64, 3), np.uint8))
    return {
        "evaluate": ["evaluate", str(run)],
        "predict": ["predict", str(run), str(tmp_path / "picture.png"), "--out", str(tmp_path / "out")],
        "explain": ["explain", str(run), str(tmp_path / "picture.png"), "--out", str(tmp_path / "looks.png")],
        "export": ["export", str(run), str(tmp_path / "exported"), "--size", "64", "64"],
    }


def test_the_run_names_the_classes_and_keeps_the_text_that_has_them(run):
    stored = json.loads((run / "experiment.json").read_text())
    assert stored["experiment"]["loss"]["class"] == "vitjax_config_plug.OwnLoss"
    assert (run / "config.py").read_text() == CONFIG


@pytest.mark.parametrize("command", ["evaluate", "predict", "explain", "export"])
def test_without_its_users_word_nothing_of_the_run_is_made(run, commands, command, capsys):
    assert main(commands[command]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and "Traceback" not in error
    assert "'vitjax_config_plug.Own" in error and "--config FILE" in error
    assert f"Its text is in {run / 'config.py'}: read it first." in error
    assert "vitjax_config_plug" not in sys.modules


@pytest.mark.parametrize("command", ["evaluate", "predict", "explain"])
def test_with_it_every_command_works(commands, config, command):
    assert main([*commands[command], "--config", config]) == 0


def test_the_text_that_the_run_kept_can_be_named_too(run):
    image = np.zeros((64, 64, 3), np.uint8)
    with pytest.raises(UnknownClass, match="config=FILE in Python"):
        vitjax.load(run)
    found = vitjax.load(run, config=str(run / "config.py"))(image, threshold=0.0)
    assert len(found.boxes) == 5


def test_another_run_starts_from_it_with_its_users_word(run, config, tmp_path, capsys):
    other = tmp_path / "other.py"
    plain = CONFIG.replace("attention=Own(width=3), attention_stages=(1,)", "").replace("OwnLoss(sharp", "SetLoss(")
    other.write_text(plain.replace("SetLoss(ness=3.0)", "SetLoss()").replace("Own", "Other"))
    words = [str(other), "--workdir", str(tmp_path / "run"), "--init-from", str(run)]
    assert train(words) == 1
    assert "'vitjax_config_plug.Own" in capsys.readouterr().err
    assert train([*words, "--config", config]) == 0
    assert "taken from" in capsys.readouterr().out


def test_the_run_goes_on_under_its_config(run, config, capsys):
    assert train([config, "--workdir", str(run), "--workers", "0", "--epochs", "1"]) == 0
    assert "goes on from step 1" in capsys.readouterr().out


def test_an_error_inside_a_users_module_keeps_its_traceback(config, tmp_path):
    with pytest.raises(ValueError, match="same shape") as caught:
        train([config, "--workdir", str(tmp_path / "run"), "--model.backbone.attention.wrong", "True"])
    assert any("plug.py" in str(entry.path) for entry in caught.traceback)
