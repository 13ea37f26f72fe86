import dataclasses
from typing import ClassVar

import flax.linen as nn
import pytest

from vitjax.backbones.resnet import ResNet
from vitjax.detection.detr import DETR
from vitjax.errors import FieldError
from vitjax.runs.booleans import flags
from vitjax.runs.configs import load_config, override
from vitjax.runs.short_words import Asked, _precise, freezing, without_short_words
from vitjax.tasks.classification import Classification
from vitjax.tasks.detection import Detection


class Plain(nn.Module):
    """A classifier without parts."""

    task: ClassVar[str] = "classification"

    num_classes: int = 2


def test_words_that_are_no_fields_are_taken_out():
    words = ["--epochs", "2", "--precision=bfloat16", "--lr", "-1", "--batch-size", "auto", "--freeze", "backbone"]
    left, asked = without_short_words([*words, "--data.root", "a=b"])
    assert left == ["--epochs", "2", "--optimizer.learning-rate", "-1", "--data.root", "a=b"]
    assert asked == Asked("bfloat16", "backbone", True)
    assert without_short_words(["--batch-size=8", "--lr=3e-4"]) == (
        ["--batch-size", "8", "--optimizer.learning-rate", "3e-4"],
        Asked(),
    )


@pytest.mark.parametrize("words", [["--precision"], ["--freeze", "--epochs", "3"]])
def test_a_word_without_a_value_is_refused(words):
    with pytest.raises(FieldError, match=f"^{words[0]} takes one word"):
        without_short_words(words)


def test_half_precision_is_asked_of_models_that_have_it():
    half = Asked(precision="bfloat16").of(Detection(model=DETR(backbone=ResNet(depth=18)))).model
    assert half.dtype == half.backbone.dtype == "bfloat16"
    with pytest.raises(FieldError, match=r"--precision bfloat16: a Plain computes in float32"):
        _precise(Plain(), "bfloat16")


def test_a_frozen_backbone_keeps_its_parameters_and_its_statistics():
    experiment = freezing(Detection(model=DETR(backbone=ResNet(depth=18, norm="batch"))), "backbone")
    assert experiment.model.backbone.norm == "frozen_batch"
    multiplier = experiment.optimizer.multiplier
    assert multiplier("backbone/stem_conv/kernel") == 0 and multiplier("input_projection/kernel") == 1
    again = freezing(experiment, "backbone")
    assert again == experiment and again.optimizer.frozen == ("^backbone/",)
    group = freezing(Detection(model=DETR(backbone=ResNet(depth=18, norm="group"))), "backbone")
    assert group.model.backbone.norm == "group"
    with pytest.raises(FieldError, match=r"got 'encoder'\. Name other parts by --optimizer\.frozen"):
        freezing(experiment, "encoder")
    with pytest.raises(FieldError, match="a Plain has none"):
        freezing(Classification(model=Plain()), "backbone")


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["--from-scratch"], {"from_scratch": True}),
        (["--from-scratch", "True"], {"from_scratch": True}),
        (["--no-from-scratch"], {}),
        (["--from-scratch", "false", "--match-classes", "true"], {"match_classes": True}),
    ],
)
def test_what_is_true_or_false_is_said_in_one_style_and_the_older_is_read(words, found):
    config = load_config("quickstart")
    assert override(config, words) == dataclasses.replace(config.experiment, **found)


def test_flags_of_parts_are_negated_within_their_part_and_values_of_other_fields_stay():
    experiment = Detection()
    assert flags(["--optimizer.decay-vectors", "False"], experiment) == ["--optimizer.no-decay-vectors"]
    words = ["--data.root", "True", "--best", "False", "False"]
    assert flags(words, experiment) == words
    assert not override(load_config("quickstart"), ["--optimizer.decay-vectors", "False"]).optimizer.decay_vectors
