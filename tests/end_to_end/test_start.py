"""What a run starts from: asked for before anything is read or compiled, and never again."""

import time

import pytest

from vitjax.commands.main import train
from vitjax.training import loop


@pytest.fixture(scope="module")
def frozen(tmp_path_factory, config):
    """The tiny detector with a stem that keeps its weights."""
    file = tmp_path_factory.mktemp("config") / "frozen.py"
    with open(config) as plain:
        file.write_text(plain.read().replace("AdamW(learning_rate=1e-3)", 'AdamW(frozen=("^backbone/stem",))'))
    return str(file)


@pytest.mark.parametrize("root", ["COCO", "nowhere"])
def test_the_published_recipe_without_weights_ends_at_once(root, data, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(loop, "prepare", lambda experiment: pytest.fail("the data were opened"))
    folder, began = data if root == "COCO" else tmp_path / root, time.monotonic()
    words = ["--data.root", str(folder), "--workdir", str(tmp_path / "run")]
    assert train(["detr_resnet50_coco", *words]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "--init-from resnet50-0676ba61.pth" in said and "timm/resnet50.tv_in1k" in said
    assert time.monotonic() - began < 5 and not (tmp_path / "run").exists()
    assert train(["detr_resnet50_coco", *words, "--init-from", str(tmp_path / "resnet50-0676ba61.pth")]) == 1
    assert "there is no" in capsys.readouterr().err


def test_what_is_frozen_is_taken_from_weights_or_random_at_its_users_word(frozen, config, run, data, tmp_path, capsys):
    words = [frozen, "--data.root", str(data), "--workdir", str(tmp_path / "run"), "--epochs", "0.5"]
    assert train(words) == 1
    assert "(^backbone/stem) would stay random" in capsys.readouterr().err
    assert train([*words, "--init-from", str(run)]) == 0
    assert train([*words[:-1], "1"]) == 0  # to go on needs no weights
    assert train([*words, "--fork"]) == 0
    scratch = [*words, "--workdir", str(tmp_path / "scratch")]
    capsys.readouterr()
    assert train([*scratch, "--from-scratch", "True"]) == 0
    assert "note: weights start random, and those frozen" in capsys.readouterr().out
    assert train([*scratch, "--epochs", "1"]) == 0
    assert "goes on from step 1" in capsys.readouterr().out


def test_weights_of_another_backbone_end_in_words(config, run, data, tmp_path, capsys):
    other = tmp_path / "deeper.py"
    with open(config) as plain:
        other.write_text(plain.read().replace("stage_blocks=(1,)", "stage_blocks=(2,)"))
    words = ["--data.root", str(data), "--workdir", str(tmp_path / "run"), "--init-from", str(run)]
    assert train([str(other), *words]) == 1
    said = capsys.readouterr().err
    assert "looks like a ResNet of 1 blocks" in said and "the backbone here is a ResNet of 2 blocks" in said
