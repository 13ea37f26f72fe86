"""The type that a model computes in, in all its parts."""

import pytest

from vitjax.backbones.resnet import ResNet
from vitjax.detection.detr import DETR
from vitjax.errors import FieldError
from vitjax.families.computing import computing_in


def test_every_part_computes_in_the_type():
    model = DETR(ResNet(depth=18), num_classes=3)
    half = computing_in(model, "bfloat16")
    assert (half.dtype, half.backbone.dtype) == ("bfloat16", "bfloat16") and half.num_classes == 3
    assert computing_in(half, "float32") == model


def test_what_no_model_computes_in_is_refused():
    with pytest.raises(FieldError, match="dtype is float32 or bfloat16; got 'float16'"):
        computing_in(DETR(), "float16")
