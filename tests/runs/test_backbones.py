"""Weights of another backbone are refused in words, and what is meant to differ is not."""

import functools

import jax
import pytest

from vitjax.attention.squeeze_excitation import SqueezeExcitation
from vitjax.backbones.crossformer import crossformer_base, crossformer_pp_base, crossformer_small
from vitjax.backbones.efficientnet_lite import efficientnet_lite0, efficientnet_lite2
from vitjax.backbones.resnet import ResNet
from vitjax.backbones.spatially_transformed import SpatiallyTransformed
from vitjax.checkpoints.paths import flatten
from vitjax.classification.classifier import Classifier
from vitjax.data.errors import DataError
from vitjax.families.model_file import shapes_of
from vitjax.runs.backbones import require_backbone

BACKBONES = {
    "R18": ResNet(18),
    "R34": ResNet(34),
    "R50": ResNet(50),
    "R101": ResNet(101),
    "R152": ResNet(50, stage_blocks=(3, 8, 36, 3)),
    "R50, narrow": ResNet(50, width=32),
    "R50 with group norms": ResNet(50, norm="group"),
    "S": crossformer_small(),
    "B": crossformer_base(),
    "++B": crossformer_pp_base(),
    "Lite0": efficientnet_lite0(),
    "Lite2": efficientnet_lite2(),
    # Those that fit R50 or R18:
    "Lite0 with its head": efficientnet_lite0(head=True),
    "R50-DC5": ResNet(50, dilation=True),
    "R50 of three stages": ResNet(50, stage_blocks=(3, 4, 6)),
    "R50 with attention": ResNet(50, attention=SqueezeExcitation()),
    "R18 behind a transformer": SpatiallyTransformed(ResNet(18)),
}


@functools.cache
def shapes(name):
    return flatten(shapes_of(Classifier(BACKBONES[name], num_classes=3)))


def said(there, here):
    with pytest.raises(DataError) as caught:
        require_backbone("weights.pth", shapes(there), shapes(here))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("there", "here", "names"),
    [
        ("R101", "R50", ("ResNet-101", "ResNet-50")),
        ("R50", "R101", ("ResNet-50", "ResNet-101")),
        ("R152", "R101", ("ResNet-152", "ResNet-101")),
        ("R50", "R18", ("ResNet-50", "ResNet-18")),
        ("R34", "R50", ("ResNet-34", "ResNet-50")),
        ("R50", "R50, narrow", ("ResNet-50", "ResNet-50 with a 7x7 stem of 32 channels")),
        ("R50", "R50 with group norms", ("ResNet-50", "ResNet-50 with group norms")),
        ("S", "B", ("CrossFormer-S", "CrossFormer-B")),
        ("Lite0 with its head", "Lite2", ("EfficientNet-Lite0", "EfficientNet-Lite2")),
        ("Lite2", "R50", ("EfficientNet-Lite2", "ResNet-50")),
        ("B", "S", ("CrossFormer-B", "CrossFormer-S")),
        ("B", "++B", ("CrossFormer-B", "CrossFormer++-B")),
        ("++B", "B", ("CrossFormer++-B", "CrossFormer-B")),
        ("R50", "S", ("ResNet-50", "CrossFormer-S")),
        ("R101", "R50 of three stages", ("ResNet-101", "a ResNet of 3+4+6 blocks")),
    ],
)
def test_another_backbone_is_named_with_the_one_that_is_wanted(there, here, names):
    assert "weights.pth looks like {}, and the backbone here is {}:".format(*names) in said(there, here)


def test_how_many_arrays_find_no_place_is_said():
    more = len(shapes("R101")) - len(shapes("R50"))
    assert f"ResNet-50: {more} of its arrays find no place, such as backbone/stage_3/block_" in said("R101", "R50")
    assert f"ResNet-101: {more} of those here would stay random, such as backbone/stage_3/" in said("R50", "R101")
    assert " of its arrays find no place and " in said("R50", "S")


@pytest.mark.parametrize(
    ("there", "here"),
    [
        ("R50", "R50-DC5"),
        ("R50", "R50 of three stages"),
        ("R50", "R50 with attention"),
        ("R50 with attention", "R50"),
        ("R18", "R18 behind a transformer"),
        ("R18 behind a transformer", "R18"),
        ("S", "S"),
    ],
)
def test_what_is_put_in_or_left_out_at_the_end_is_the_same_backbone(there, here):
    require_backbone("weights.pth", shapes(there), shapes(here))


def test_parts_that_a_users_class_adds_start_anew_and_those_that_it_lacks_do_not():
    more = {**shapes("R18"), "params/backbone/stage_1/block_0/adapter/kernel": jax.ShapeDtypeStruct((4, 4), float)}
    require_backbone("weights.pth", shapes("R18"), more)
    with pytest.raises(DataError, match=r"1 of its arrays find no place.*backbone/stage_1/block_0/adapter/kernel"):
        require_backbone("weights.pth", more, shapes("R18"))
