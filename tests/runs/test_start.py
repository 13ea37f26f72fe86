"""A new run whose recipe starts from weights is refused without any, in a message with their names and the flags."""

import dataclasses
import re

import pytest

from vitjax.backbones.resnet import ResNet
from vitjax.detection.detr import DETR
from vitjax.errors import FieldError
from vitjax.recipes import detr_coco
from vitjax.runs.configs import load_config, names
from vitjax.runs.optimizer import AdamW
from vitjax.runs.start import notes_on_start, require_start
from vitjax.tasks.detection import Detection

UPON = [name for name in names() if "a DETR" in (load_config(name).experiment.pretrained or "")]
COCO = [name for name in names() if "_coco" in name and name not in UPON]
BROUGHT = [name for name in names() if load_config(name).experiment.init_from]  # their weights come with the package
FINETUNED = [
    name for name in names() if load_config(name).experiment.optimizer.frozen and name not in (*COCO, *UPON, *BROUGHT)
]


@pytest.mark.parametrize("name", COCO)
def test_every_recipe_of_coco_names_its_weights_and_shows_the_whole_command(name):
    config = load_config(name)
    with pytest.raises(FieldError) as caught:
        require_start(config.experiment)
    wanted = {"50": "resnet50-0676ba61.pth", "101": "resnet101-63fe2227.pth"}
    depth = re.search(r"resnet(\d+)", name)
    said = str(caught.value)
    assert "--init-from" in said and "--from-scratch." in said and "\n" not in said
    if depth:
        assert all(word in said for word in (wanted[depth[1]], f"timm/resnet{depth[1]}.tv_in1k", "V1", "V2", "a1"))
        assert "backbone/stem" in said and "V1" in config.text
    words = " ".join(config.text.replace("\\", " ").split())
    weights = wanted[depth[1]] if depth else "crossformer-s.pth"
    assert f"python train.py {name} --data.root /data/coco --init-from {weights}" in words


@pytest.mark.parametrize("name", UPON)
def test_a_mask_head_is_refused_without_the_detector_it_stands_upon(name):
    config = load_config(name)
    with pytest.raises(FieldError, match=r"frozen \(.*DETR.*--init-from FILE"):
        require_start(config.experiment)
    assert f"python train.py {name} --data.root /data/coco --init-from " in config.text


@pytest.mark.parametrize("name", FINETUNED)
def test_frozen_parameters_that_come_from_nowhere_are_refused(name):
    with pytest.raises(FieldError, match=r"\^backbone/stem.* would stay random.*--init-from FILE"):
        require_start(load_config(name).experiment)


def test_all_other_configs_start_from_nothing():
    for name in set(names()) - {*COCO, *FINETUNED, *UPON}:
        experiment = load_config(name).experiment
        require_start(experiment)
        assert notes_on_start(experiment) == () and experiment.pretrained is None


@pytest.mark.parametrize("change", [{"init_from": "weights.pth"}, {"from_scratch": True}])
def test_weights_or_the_word_of_the_user_start_a_run(change):
    require_start(dataclasses.replace(load_config("detr_resnet50_coco").experiment, **change))


def test_a_multiplier_of_zero_freezes_too():
    with pytest.raises(FieldError, match=r"\^encoder/"):
        require_start(Detection(optimizer=AdamW(multipliers={"^encoder/": 0.0})))


def test_what_starts_random_at_its_users_word_is_said():
    frozen = dataclasses.replace(load_config("detr_resnet50_coco").experiment, from_scratch=True)
    assert "those frozen by optimizer.frozen stay so" in notes_on_start(frozen)[0]
    thawed = dataclasses.replace(load_config("detr_crossformer_small_coco").experiment, from_scratch=True)
    assert notes_on_start(thawed) == ("note: weights start random; this recipe starts from pre-trained ones",)


def test_frozen_norms_that_come_from_nowhere_are_said():
    model = DETR(backbone=ResNet(18))
    assert "batch norms are frozen and come from nowhere" in notes_on_start(Detection(model=model))[0]
    assert notes_on_start(Detection(model=model, init_from="resnet18.pth")) == ()


def test_a_backbone_that_nobody_has_published_asks_for_no_file_by_name():
    assert detr_coco(ResNet(50, width=32)).pretrained is None and detr_coco(ResNet(18)).pretrained is None


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("weights/resnet50-11ad3fa6.pth", True),
        ("timm/resnet50.a1_in1k", True),
        ("weights/resnet50-0676ba61.pth", False),
        ("timm/resnet50.tv_in1k", False),
        ("my_backbone.pth", False),
        ("runs/mine", False),
    ],
)
def test_weights_that_are_others_by_their_name_are_said_to_be(name, other):
    said = notes_on_start(dataclasses.replace(load_config("detr_resnet50_coco").experiment, init_from=name))
    assert ["are other weights; this recipe starts from torchvision's V1" in line for line in said] == [True] * other
