"""Folders of timm: a ResNet by its tensors, cropped as config.json says."""

import json

import numpy as np
import pytest
from published import MODELS, file_of, tensors_of

from vitjax.checkpoints.paths import flatten
from vitjax.data.crops import CenterCrop
from vitjax.data.errors import DataError
from vitjax.formats.tables import PublishedError
from vitjax.formats.tensor_files import write_tensors
from vitjax.runs.initial import read_weights
from vitjax.runs.read_model import read_model

CROP = {"tag": "tv_in1k", "input_size": [3, 224, 224], "interpolation": "bilinear", "crop_pct": 0.875}
COLOURS = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
FILE = file_of(MODELS["resnet"])


def folder(path, *, head=True, architecture="resnet18", more=None, **changes):
    config = {"architecture": architecture, "num_classes": 1000, "pretrained_cfg": {**CROP, **COLOURS, **changes}}
    (path / "config.json").write_text(json.dumps(config))
    tensors = {name: tensor for name, tensor in tensors_of(FILE).items() if head or not name.startswith("fc.")}
    write_tensors(path / "model.safetensors", tensors | (more or {}))
    return path


def test_a_classifier_is_read_with_its_crop_and_its_weights_are_named(tmp_path):
    found = read_model(folder(tmp_path))
    assert found.model == FILE.model and found.resize == CenterCrop(224, 256)
    np.testing.assert_array_equal(found.variables["params"]["head"]["bias"], FILE.variables["params"]["head"]["bias"])
    assert found.notes[0] == "note: the weights are timm's resnet18.tv_in1k" and "bilinear" in found.notes[1]
    assert read_model(folder(tmp_path, crop_pct=0.95, interpolation="bicubic")).resize == CenterCrop(224, 235)
    assert read_model(folder(tmp_path, input_size=[3, 160, 160], crop_pct=1.0)).resize == CenterCrop(160, 160)


@pytest.mark.parametrize("head", [True, False])
def test_a_backbone_starts_from_it_with_or_without_a_head(head, tmp_path):
    found = read_weights(folder(tmp_path, head=head))
    wanted = {path for path in flatten(FILE.variables) if head or "/head/" not in path}
    assert flatten(found.variables).keys() == wanted


def test_other_colours_and_other_architectures_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"mean=\[0\.5, 0\.5, 0\.5\]"):
        read_model(folder(tmp_path, mean=[0.5, 0.5, 0.5]))
    with pytest.raises(PublishedError, match="a ResNet-D"):
        read_weights(folder(tmp_path, architecture="resnet18d", more={"conv1.3.weight": np.zeros((8, 8, 3, 3))}))
