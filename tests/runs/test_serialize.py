import dataclasses
import json

import pytest

from vitjax.backbones.resnet import ResNet
from vitjax.runs.configs import load_config, names
from vitjax.runs.serialize import from_json, to_json


@pytest.mark.parametrize("name", names())
def test_every_config_survives_json(name):
    experiment = load_config(name).experiment
    assert from_json(json.loads(json.dumps(to_json(experiment)))) == experiment


def test_lists_come_back_as_the_tuples_that_modules_need():
    backbone = ResNet(stage_blocks=(1, 2))
    assert from_json(json.loads(json.dumps(to_json(backbone)))).stage_blocks == (1, 2)


def test_a_class_from_elsewhere_is_refused():
    with pytest.raises(ValueError, match=r"os\.system"):
        from_json({"class": "os.system", "command": "true"})


def test_a_field_that_no_longer_exists_is_named():
    with pytest.raises(ValueError, match="legs"):
        from_json({"class": "vitjax.backbones.resnet.ResNet", "legs": 4})


def test_a_value_that_json_cannot_hold_is_refused():
    @dataclasses.dataclass
    class Odd:
        value: object

    with pytest.raises(TypeError, match="numbers, strings"):
        to_json(Odd(object()))
