"""Files of EfficientNet-Lite: both ways to name tensors, every size, whose code they are for, and what is near."""

import json

import numpy as np
import pytest
from efficientnet_oracle import timm_names
from quick import drawn

from vitjax import backbones
from vitjax.backbones.efficientnet_lite import EfficientNetLite, efficientnet_lite0, scaled_stages
from vitjax.checkpoints.paths import flatten
from vitjax.classification.classifier import Classifier
from vitjax.data.crops import CenterCrop
from vitjax.data.errors import DataError
from vitjax.families.efficientnet_lite import FAMILY
from vitjax.families.identify import identify
from vitjax.families.model_file import shapes_of
from vitjax.formats.tables import PublishedError, TensorFile
from vitjax.formats.tensor_files import read_tensors, write_tensors
from vitjax.runs.initial import read_weights
from vitjax.runs.read_model import read_model, write_official

SIDES = (224, 240, 260, 280, 300)


def classifier(number, **changes):
    backbone = getattr(backbones, f"efficientnet_lite{number}")(head=True, **changes)
    return Classifier(backbone, num_classes=5, norm=False)


def blocks(number):
    backbone = getattr(backbones, f"efficientnet_lite{number}")()
    return [stage.blocks for stage in scaled_stages(backbone.width, backbone.depth)]


def tensors_of(model):
    return FAMILY.official.tensors_of(model, drawn(shapes_of(model)))


@pytest.mark.parametrize("number", range(5))
def test_every_size_is_told_by_either_names_with_the_same_weights(number):
    model = classifier(number)
    variables = drawn(shapes_of(model))
    port, wanted = FAMILY.official.tensors_of(model, variables), flatten(variables)
    timm = timm_names(port, blocks(number))
    assert f"_blocks.{sum(blocks(number)) - 1}._project_conv.weight" in port and "blocks.6.0.conv_pwl.weight" in timm
    files = [TensorFile(port, {}, "model.pth"), TensorFile(timm, {}, f"tf_efficientnet_lite{number}-0.pth")]
    for file in map(identify, files):
        assert file.model == model and file.notes == ()
        assert file.resize == CenterCrop(SIDES[number], SIDES[number], nearest=True)
        found = flatten(file.variables)
        assert found.keys() == wanted.keys()
        assert all(np.array_equal(found[path], wanted[path]) for path in wanted)


@pytest.mark.parametrize("code, name", [("tensorflow", "model.pth"), ("torch", "efficientnet_lite0_ra.safetensors")])
def test_a_file_comes_back_to_the_last_bit(code, name, tmp_path):
    model = classifier(0, code=code)
    tensors = tensors_of(model)
    assert ("conv_stem.weight" in tensors) == (code == "torch")
    write_tensors(tmp_path / name, dict(sorted(tensors.items())))
    file = read_model(tmp_path / name)
    assert file.model == model
    (tmp_path / "again").mkdir()
    write_official(file, tmp_path / "again" / name)
    assert (tmp_path / "again" / name).read_bytes() == (tmp_path / name).read_bytes()


def test_batch_norms_that_learn_are_written_under_the_same_names():
    assert tensors_of(classifier(0, norm="batch")).keys() == tensors_of(classifier(0)).keys()


@pytest.mark.parametrize(
    "name, code, noted",
    [
        ("tf_efficientnet_lite0-0aa007d2.pth", "tensorflow", False),
        ("efficientnet_lite0_ra-37913777.pth", "torch", False),
        ("weights.pth", "tensorflow", True),
    ],
)
def test_whose_code_weights_are_for_is_told_by_the_files_name(name, code, noted):
    found = identify(TensorFile(timm_names(tensors_of(classifier(0)), blocks(0)), {}, name))
    assert found.model.backbone.code == code
    assert any("tf_efficientnet_lite0" in note for note in found.notes) == noted


def folder(path, **given):
    tensors = timm_names(tensors_of(classifier(0)), blocks(0))
    config = {"architecture": given.pop("architecture"), "num_classes": 5, "pretrained_cfg": given}
    (path / "config.json").write_text(json.dumps(config))
    write_tensors(path / "model.safetensors", tensors)
    return path


def test_folders_of_timm_have_the_crop_and_the_colours_of_their_architecture(tmp_path):
    halves = {"mean": [0.5] * 3, "std": [0.5] * 3}
    found = read_model(folder(tmp_path, architecture="tf_efficientnet_lite0", crop_pct=0.875, **halves))
    assert found.model.backbone == efficientnet_lite0(head=True) and found.resize == CenterCrop(224, 256)
    imagenet = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    found = read_model(folder(tmp_path, architecture="efficientnet_lite0", **imagenet))
    assert found.model.backbone.code == "torch"
    with pytest.raises(DataError, match="mean="):
        read_model(folder(tmp_path, architecture="tf_efficientnet_lite0", **imagenet))


def test_a_backbone_without_a_head_is_enough_to_start_from(tmp_path):
    model = classifier(0)
    tensors = {name: array for name, array in tensors_of(model).items() if "_fc" not in name}
    write_tensors(tmp_path / "backbone.pth", tensors)
    found = flatten(read_weights(tmp_path / "backbone.pth").variables)
    assert found.keys() == {path for path in flatten(shapes_of(model)) if "/head/" not in path}


def test_networks_of_the_same_names_are_refused():
    mobile = timm_names(tensors_of(classifier(0)), blocks(0))
    mobile |= {"blocks.1.2.conv_pwl.weight": np.zeros((24, 144, 1, 1), np.float32)}
    with pytest.raises(PublishedError, match=r"MobileNetV2, and stages of 1 x 16, 3 x 24, .* none of Lite0 to Lite4"):
        identify(TensorFile(mobile, {}))
    squeezed = tensors_of(classifier(0)) | {"_blocks.0._se_reduce.weight": np.zeros((8, 32, 1, 1), np.float32)}
    with pytest.raises(PublishedError, match=r"squeeze-and-excitation .*efficientnet-lite0"):
        identify(TensorFile(squeezed, {}))


def test_a_size_of_ones_own_is_written_with_the_names_of_timm():
    model = Classifier(EfficientNetLite(depth=0.5, head=True), num_classes=5, norm=False)
    assert "blocks.1.0.conv_pwl.weight" in tensors_of(model)


def test_counters_of_batches_may_be_left_behind(tmp_path):
    tensors = tensors_of(classifier(0)) | {"_bn0.num_batches_tracked": np.array(3)}
    write_tensors(tmp_path / "model.pth", tensors)
    assert "_bn0.num_batches_tracked" in read_tensors(tmp_path / "model.pth").tensors
    assert read_model(tmp_path / "model.pth").model == classifier(0)
