import dataclasses
import json
import sys
import types

import flax.linen as nn
import pytest

import vitjax
from vitjax.attention.criss_cross import CrissCrossAttention
from vitjax.backbones.resnet import ResNet
from vitjax.classification.mixing import Mixing
from vitjax.runs.configs import load_config, names
from vitjax.runs.experiment import Experiment
from vitjax.runs.optimizer import AdamW
from vitjax.runs.serialize import NoExperiment, UnknownClass, from_json, to_json
from vitjax.tasks.detection import Detection


def through_json(value):
    return from_json(json.loads(json.dumps(to_json(value))), type(value))


def changed(name, value):
    """An experiment as JSON with another value in the field of a dotted name."""
    content = to_json(Detection())
    *parents, last = name.split(".")
    place = content
    for parent in parents:
        place = place[parent]
    place[last] = value
    return content


@pytest.mark.parametrize("name", names())
def test_every_config_survives_json(name):
    experiment = load_config(name).experiment
    assert through_json(experiment) == experiment


def test_lists_come_back_as_the_tuples_that_modules_need():
    assert through_json(ResNet(stage_blocks=(1, 2))).stage_blocks == (1, 2)


def test_a_multiplier_may_match_a_parameter_that_is_called_class():
    optimizer = AdamW(multipliers={"class": 10.0, "parent": 0.5})
    assert through_json(optimizer) == optimizer


def test_an_experiment_of_before_the_rooms_is_read():
    content = to_json(Detection())
    content["class"] = "vitjax.training.experiment.Experiment"
    content["optimizer"]["class"] = "vitjax.training.optimizer.AdamW"
    content["optimizer"]["schedule"]["class"] = "vitjax.training.optimizer.StepSchedule"
    assert from_json(content, Experiment) == Detection()


CALLABLES = {
    "os.system": {"command": "true"},
    "builtins.exec": {"source": "1"},
    "vitjax.runs.configs.load_config": {"name": "evil.py"},
    "vitjax.training.configs.load_config": {"name": "evil.py"},
    "vitjax.runs.configs.Config": {"name": "a", "text": "b", "experiment": None, "path": "c", "source": "d"},
    "vitjax.commands.main.main": {"arguments": ["models"]},
    "vitjax.commands.arguments.PredictArguments": {"model": "a", "images": ["b"], "out": "c"},
    "vitjax.runs.run_folder.dataclasses": {},
    "vitjax.training.prepare.prepare": {"experiment": None},
    "vitjax.recipes.crossformer": {},
    "vitjax.detection.detr.Any": {},
    "vitjax.detection.detr.DETR.apply": {},
    "vitjax.detection.detr.nn": {},
    "vitjax.classification.mixing.Mixing": {},
    "vitjax": {},
    "vitjax..": {},
    "vitjax./.a": {},
    "": {},
}


@pytest.mark.parametrize("field", ["model", "loss", "optimizer.schedule", "data", "seed", "optimizer.multipliers"])
@pytest.mark.parametrize("path", CALLABLES)
def test_nothing_is_called_but_the_parts_that_a_field_may_hold(path, field, tmp_path, monkeypatch):
    (tmp_path / "evil.py").write_text("open('ran', 'w')\nraise SystemExit('an attacker ran')\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NoExperiment, match=rf"experiment\.{field}"):
        from_json(changed(field, {"class": path, **CALLABLES[path]}), Experiment)
    assert not (tmp_path / "ran").exists()


def test_a_room_of_a_new_task_holds_parts_where_its_names_are_public(tmp_path, monkeypatch):
    monkeypatch.setattr(vitjax, "__file__", str(tmp_path / "__init__.py"))
    module = types.ModuleType("vitjax.counting.counter")

    @dataclasses.dataclass(frozen=True)
    class Loss:
        weight: float = 1.0

    Loss.__module__, Loss.__qualname__ = module.__name__, "Loss"
    module.Loss = Loss
    monkeypatch.setitem(sys.modules, module.__name__, module)
    with pytest.raises(NoExperiment, match="is no part of an experiment"):
        from_json(to_json(Loss(2.0)), Loss)
    (tmp_path / "counting").mkdir()
    (tmp_path / "counting" / "__init__.pyi").touch()
    assert from_json(to_json(Loss(2.0)), Loss) == Loss(2.0)


def test_the_experiment_itself_can_be_nothing_else():
    with pytest.raises(NoExperiment, match="experiment must be an Experiment; got 'Mixing'"):
        from_json(to_json(Mixing()), Experiment)


WRONG = {
    "epochs": ("x", r"experiment\.epochs must be a number; got 'x'"),
    "model": (None, r"experiment\.model must be a Module; got None"),
    "batch_size": (1e12, r"experiment\.batch_size must be a whole number; got 1000000000000\.0"),
    "seed": (10**30, r"experiment\.seed must be a whole number"),
    "log_every": (True, r"experiment\.log_every must be a whole number; got True"),
    "loss": ([], r"experiment\.loss must be a SetLoss or .*; got \[\]"),
    "workdir": (4, r"experiment\.workdir must be text or null; got 4"),
    "matmul_precision": ("most", "'default' or 'high' or 'highest'; got 'most'"),
    "match_classes": (1, "true or false; got 1"),
    "model.backbone.depth": ("50", r"experiment\.model\.backbone\.depth must be a whole number"),
    "optimizer.multipliers": (["a"], r"experiment\.optimizer\.multipliers must be an object"),
    "optimizer.multipliers.head": ("1", r"experiment\.optimizer\.multipliers\.head must be a number"),
    "optimizer.frozen": ("head", r"experiment\.optimizer\.frozen must be a list; got 'head'"),
    "augmentation.crop_range": ([1, 2, 3], r"experiment\.augmentation\.crop_range must be a list of 2; got 3"),
    "optimizer.schedule.drop_epochs": (3.0, r"experiment\.optimizer\.schedule\.drop_epochs must be a list; got 3\.0"),
    "resize.size": ({}, r"experiment\.resize\.size must be a whole number or null; got \{\}"),
    "legs": (4, "experiment: Detection has no field 'legs' in this version"),
    "model.legs": (4, r"experiment\.model: DETR has no field 'legs'"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_value_that_is_not_of_its_fields_type_is_one_line_that_names_the_field(name):
    value, message = WRONG[name]
    with pytest.raises(NoExperiment, match=message) as caught:
        from_json(changed(name, value), Experiment)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [[], [384], [1, 2, 3]], ids=len)
def test_a_pair_has_two_values(value):
    with pytest.raises(NoExperiment, match=rf"crop_range must be a list of 2; got {len(value)}"):
        from_json(changed("augmentation.crop_range", value), Experiment)


def test_a_number_that_means_nothing_is_refused_on_the_way_back_too():
    with pytest.raises(NoExperiment, match="log_every must be a whole number, at least 1; got 0"):
        from_json(changed("log_every", 0), Experiment)


@pytest.fixture
def module():
    """A config's module, which is not loaded, with a class of its user's own."""
    module = types.ModuleType("vitjax_config_mine")

    class Mine(nn.Module):
        width: int = 3
        parts: tuple = ()
        names: object = None

    Mine.__module__, Mine.__qualname__ = module.__name__, "Mine"
    module.Mine = Mine
    module.quit = lambda **_: pytest.fail("a function of the config was called")
    return module


def test_a_class_of_a_users_config_is_found_only_once_the_config_is_loaded(module, monkeypatch):
    mine = module.Mine(width=7, parts=(1, (2, 3)), names={"class": 1, "a": None})
    content = json.loads(json.dumps(to_json(ResNet(attention=mine))))
    with pytest.raises(UnknownClass, match=r"'vitjax_config_mine\.Mine' is not vitjax's.*--config FILE"):
        from_json(content, ResNet)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    assert from_json(content, ResNet).attention == mine


def test_a_config_may_have_been_renamed(module, monkeypatch):
    content = to_json(ResNet(attention=module.Mine(width=7)))
    monkeypatch.setitem(sys.modules, "vitjax_config_yours", module)
    assert from_json(content, ResNet).attention == module.Mine(width=7)


def test_of_a_users_config_too_only_classes_with_fields_are_made(module, monkeypatch):
    monkeypatch.setitem(sys.modules, module.__name__, module)
    for name in ("quit", "missing", "Mine.apply"):
        with pytest.raises(UnknownClass):
            from_json({"class": f"vitjax_config_mine.{name}"}, nn.Module)


def test_a_module_that_is_there_to_be_imported_is_not_imported(tmp_path, monkeypatch):
    (tmp_path / "plug_of_a_user.py").write_text("raise SystemExit('imported')\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UnknownClass, match=r"plug_of_a_user\.Net"):
        from_json(changed("model", {"class": "plug_of_a_user.Net"}), Experiment)
    assert "plug_of_a_user" not in sys.modules


def test_a_module_from_which_the_config_has_a_class_is_known_with_it(monkeypatch):
    plug, config = types.ModuleType("plug_of_a_user"), types.ModuleType("vitjax_config_mine")
    plug.Net, plug.Block = (dataclasses.make_dataclass(name, ["size"]) for name in ("Net", "Block"))
    plug.Net.__module__ = plug.Block.__module__ = plug.__name__
    config.Net = plug.Net
    monkeypatch.setitem(sys.modules, plug.__name__, plug)
    content = to_json(plug.Net(plug.Block(3)))
    with pytest.raises(UnknownClass):
        from_json(content, object)
    monkeypatch.setitem(sys.modules, config.__name__, config)
    assert from_json(content, object) == plug.Net(plug.Block(3))


def test_a_module_of_vitjax_may_hold_any_other():
    backbone = ResNet(attention=CrissCrossAttention(passes=3))
    assert through_json(backbone) == backbone


def test_a_value_that_json_cannot_hold_is_refused():
    @dataclasses.dataclass
    class Odd:
        value: object

    with pytest.raises(TypeError, match="numbers, strings"):
        to_json(Odd(object()))


@pytest.mark.parametrize("part", [None, [], "x", 4, {}, {"class": 4}], ids=str)
def test_an_experiment_of_before_the_rooms_without_a_post_processing_is_one_line(part):
    content = {"class": "vitjax.training.experiment.Experiment", "postprocess": part}
    with pytest.raises(NoExperiment, match=r"experiment\.postprocess must be"):
        from_json(content, Experiment)
