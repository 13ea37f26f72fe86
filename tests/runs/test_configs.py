import ast
import dataclasses
import functools
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

from vitjax.attention.criss_cross import CrissCrossAttention
from vitjax.commands import models
from vitjax.data.errors import DataError
from vitjax.data.source import Classes
from vitjax.detection.detr import DETR
from vitjax.runs.configs import described, folder, load_config, names, override
from vitjax.runs.experiment import fitted
from vitjax.structs import Images
from vitjax.training.prepare import count

PUBLISHED = {
    "detr_resnet50_coco": (41_302_368, "42.0"),
    "detr_resnet50_dc5_coco": (41_302_368, "43.3"),
    "detr_resnet101_coco": (60_242_272, "43.5"),
    "detr_resnet101_dc5_coco": (60_242_272, "44.9"),
    "deformable_detr_resnet50_single_scale_coco": (33_844_193, "39.4"),
    "deformable_detr_resnet50_single_scale_dc5_coco": (33_844_193, "41.5"),
    "deformable_detr_resnet50_coco": (39_847_265, "44.5"),
    "deformable_detr_resnet50_refine_coco": (40_627_260, "46.2"),
    "deformable_detr_resnet50_two_stage_coco": (40_959_129, "46.9"),
    "conditional_detr_resnet50_coco": (43_196_001, "40.9"),
    "dab_detr_resnet50_coco": (43_449_117, "42.2"),
    "dino_resnet50_4scale_coco": (46_670_782, "49.0"),
    "dino_resnet50_4scale_coco_24": (46_670_782, "50.4"),
    "dino_resnet50_4scale_coco_36": (46_670_782, "50.9"),
    "dino_resnet50_5scale_coco": (47_033_406, "49.4"),
    "crossformer_tiny_imagenet": (27_776_794, "81.5"),
    "crossformer_small_imagenet": (30_657_394, "82.5"),
    "crossformer_base_imagenet": (51_971_554, "83.4"),
    "crossformer_large_imagenet": (91_971_184, "84.0"),
    "crossformer_pp_small_imagenet": (23_325_340, "83.2"),
    "crossformer_pp_base_imagenet": (51_994_594, "84.2"),
    "crossformer_pp_large_imagenet": (92_001_904, "84.7"),
    "crossformer_pp_huge_imagenet": (95_962_944, "84.9"),
    "resnet50_imagenet": (25_557_032, "76.1"),
    "efficientnet_lite0_imagenet": (4_652_008, "75.1"),
    "detr_resnet50_panoptic_coco": (1_333_657, "43.4"),
    "detr_resnet50_dc5_panoptic_coco": (1_333_657, "44.6"),
    "detr_resnet101_panoptic_coco": (1_333_657, "45.1"),
}
OWN = {"quickstart", "detr_tiny_digits", "detr_resnet50_finetune", "deformable_detr_resnet50_finetune"}
OWN |= {"deformable_detr_small", "deformable_detr_crossformer_digits", "crossformer_tiny_digits", "classifier_finetune"}
OWN |= {"zoo_hard_attention_digits", "dino_resnet50_finetune", "dino_crossformer_small_coco", "dino_small"}
OWN |= {"efficientnet_lite0_finetune", "conditional_detr_resnet50_finetune", "dab_detr_resnet50_finetune"}
OWN |= {"quickstart_masks", "deformable_detr_small_panoptic", "detr_resnet50_instances_coco"}
OWN |= {"deformable_detr_resnet50_panoptic_coco"}
OWN |= {"zoo_plain_scenes", "zoo_dual_attention_scenes", "zoo_criss_cross_scenes"}
SHARED = re.compile(r"^dino_|detr_.*_(coco|finetune)$")  # of a recipe that several configs share
WANTED = {*PUBLISHED, *OWN, "detr_crossformer_small_coco", "deformable_detr_crossformer_small_coco"}


@functools.cache  # tracing a ResNet-101 takes seconds, so once is enough
def traced(model):
    """What a config's model predicts for two images, and its variables, both without numbers."""
    images = Images(jnp.zeros((2, 160, 160, 3)), jnp.ones((2, 160, 160), bool))
    return jax.eval_shape(functools.partial(model.init_with_output, train=False), jax.random.key(0), images)


class Labels:
    """A source with so many classes, and objects on an image that ask for so many queries."""

    def __init__(self, count, queries):
        self.classes, self.max_objects = Classes(("",) * count, tuple(range(count))), queries // 7


def labels_of(config):
    """The classes that a config counts its parameters with."""
    return int(re.search(r"with ([\d,]+) classes", config.said("Parameters"))[1].replace(",", ""))


def queries_of(config):
    """The queries that a config counts its parameters with; 0 where it says none."""
    return int((re.search(r"and (\d+) queries", config.said("Parameters")) or "00")[1])


def closed(config):
    """The model with so many classes as the config says, where the data decide."""
    model = config.experiment.model
    return model if model.num_classes else fitted(model, Labels(labels_of(config), queries_of(config)))


def counts(config):
    """How many parameters train, and how many are frozen."""
    return [count(part) for part in config.experiment.optimizer.partition(traced(closed(config))[1]["params"])]


def test_the_promised_configs_are_there():
    assert set(names()) >= WANTED


@pytest.mark.parametrize("name", names())
def test_every_config_builds_a_model_that_predicts(name):
    config = load_config(name)
    experiment, model, labels = config.experiment, closed(config), labels_of(config)
    predictions, variables = traced(model)
    if experiment.kind == "classification":
        assert predictions.shape == (2, labels)
    elif experiment.kind == "segmentation":
        assert predictions.outputs.shape[1:] == predictions.auxiliary.shape == (2, 160, 160, labels)
    else:
        if experiment.kind == "masks":
            assert predictions.masks.shape[:2] == (2, min(model.num_queries, model.max_masks))
            model, predictions = model.detr, predictions.predictions
        classes = labels + isinstance(model, DETR)  # 'no object' is one more
        assert predictions.logits.shape == (model.decoder_layers, 2, model.num_queries, classes)
        assert predictions.boxes.shape == (model.decoder_layers, 2, model.num_queries, 4)
    trainable, _ = experiment.optimizer.partition(variables["params"])
    experiment.optimizer.transformation(trainable, 100, 10)


def takes_attention_and_is_frozen(config):
    model = config.experiment.model
    inside = getattr(model, model.inside) if hasattr(model, "inside") else model
    return "stem" in str(config.experiment.optimizer) and hasattr(inside.backbone, "attention")


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_configs_have_the_published_number_of_trainable_parameters(name):
    config = load_config(name)
    parameters, score = PUBLISHED[name]
    assert counts(config)[0] == parameters
    assert score in config.said("Published")


@pytest.mark.parametrize("name", [name for name in names() if takes_attention_and_is_frozen(load_config(name))])
def test_attention_that_is_put_into_a_frozen_stage_learns(name):
    experiment = load_config(name).experiment
    optimizer, inside = experiment.optimizer, getattr(experiment.model, "inside", "")
    stage = f"{inside}/backbone/stage_1".removeprefix("/")
    assert optimizer.multiplier(f"{stage}/block_0/conv_1/kernel") == 0
    assert optimizer.multiplier(f"{stage}/block_0/attention/squeeze/kernel") > 0
    assert optimizer.multiplier(f"{stage}/attention/gamma") > 0


def test_a_mask_head_is_trained_upon_a_detector_that_is_frozen_as_published():
    for name in ("detr_resnet50_panoptic_coco", "detr_resnet50_instances_coco"):
        optimizer = load_config(name).experiment.optimizer
        assert optimizer.multiplier("detr/decoder/norm/scale") == 0
        assert optimizer.multiplier("mask_head/out/kernel") == optimizer.multiplier("mask_attention/key/bias") == 1


@pytest.mark.parametrize("name", names())
def test_every_config_says_what_is_published_and_what_was_measured(name):
    config = load_config(name)
    assert config.title and config.said("Published") and config.said("Measured here")


@pytest.mark.parametrize("name", [name for name in names() if SHARED.search(name)])
def test_a_config_of_a_shared_recipe_says_only_what_is_its_own(name):
    source = (folder() / f"{name}.py").read_text()
    _, code = source[3:].split('"""', 1)
    assert source.startswith('"""')
    assert len([line for line in code.splitlines() if line]) <= 15


@pytest.mark.parametrize("name", names())
def test_configs_import_names_and_not_files(name):
    tree = ast.parse((folder() / f"{name}.py").read_text())
    modules = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert modules and all(module.split(".")[0] == "vitjax" and module.count(".") <= 1 for module in modules)


@pytest.mark.parametrize(
    ("config", "others"),
    [
        ("detr_resnet50_coco", {"detection.deformable_detr", "backbones.crossformer", "segmentation.segmenter"}),
        ("deformable_detr_resnet50_coco", {"backbones.crossformer", "classification.classifier"}),
        ("zoo_plain_digits", {"detection.deformable_detr", "segmentation.segmenter"}),
    ],
)
def test_a_config_loads_no_models_of_others(config, others):
    code = f"import sys; from vitjax.runs.configs import load_config; load_config({config!r}); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=folder().parent, capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) & {f"vitjax.{other}" for other in others} == set()


@pytest.mark.parametrize("name", names())
def test_every_config_says_which_model_it_has_and_how_many_parameters(name):
    config = load_config(name)
    assert config.said("Model") == models.architecture(config.experiment.model)
    assert config.said("Parameters") == models.parameters(*counts(config), labels_of(config), queries_of(config))


def test_the_table_of_models_is_what_the_configs_say_and_builds_no_model(monkeypatch):
    monkeypatch.setattr(jax, "eval_shape", None)
    lines = models.table().splitlines()
    rows = {line.split()[0]: line.split()[-1] for line in lines if line.startswith("  ") and line[2] != " "}
    assert rows == {name: load_config(name).said("Parameters").split()[0] for name in names()}
    assert max(map(len, lines)) <= 100


def test_readme_has_the_parameters_of_the_table():
    readme = (folder().parent / "README.md").read_text()
    cells = [line.split("|")[1:3] for line in readme.splitlines() if line.startswith("| `")]
    found = [(re.findall(r"`(\w+)`", configs), re.findall(r"[\d,]{6,}\d", counts)) for configs, counts in cells]
    said = {name: parameters for row in found for name, parameters in zip(*row, strict=False)}
    own = {each.name: each.said("Parameters").split()[0] for each in described()}
    assert len(said) > 20 and said.items() <= own.items()


def test_the_command_line_overrides_nested_fields():
    config = load_config("detr_resnet50_coco")
    words = ["--model.backbone.depth", "34", "--optimizer.learning-rate", "2e-4", "--data.root", "somewhere"]
    experiment = override(config, words)
    assert experiment.model.backbone.depth == 34
    assert experiment.optimizer.learning_rate == 2e-4
    assert experiment.data.root == "somewhere"
    unchanged = dataclasses.replace(experiment.optimizer, learning_rate=1e-4)
    assert unchanged == config.experiment.optimizer


def test_the_command_line_reaches_the_fields_of_attention_in_a_backbone():
    experiment = override(load_config("zoo_criss_cross_digits"), ["--model.backbone.attention.passes", "3"])
    assert experiment.model.backbone.attention == CrissCrossAttention(passes=3)


def test_a_mistyped_field_gets_the_nearest_name(capsys):
    with pytest.raises(SystemExit):
        override(load_config("quickstart"), ["--optimizer.learning-rte", "1"])
    assert "--optimizer.learning-rate" in capsys.readouterr().err


def test_a_mistyped_config_gets_the_nearest_name():
    with pytest.raises(DataError, match="Did you mean quickstart"):
        load_config("quikstart")


def test_a_path_to_a_file_of_ones_own_takes_the_place_of_a_name(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        '"""Mine."""\n'
        "from vitjax.tasks.detection import Detection\n\n\n"
        "def experiment():\n    return Detection(epochs=3)\n"
    )
    config = load_config(str(file))
    assert config.experiment.epochs == 3
    assert config.experiment.workdir == "runs/mine"


def test_a_config_may_say_where_its_run_is_kept(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "from vitjax.tasks.detection import Detection\n\n\n"
        "def experiment():\n    return Detection(workdir='elsewhere')\n"
    )
    assert load_config(str(file)).experiment.workdir == "elsewhere"


def test_a_file_without_an_experiment_is_told_so(tmp_path):
    file = tmp_path / "empty.py"
    file.write_text("")
    with pytest.raises(DataError, match=r"experiment\(\)"):
        load_config(str(file))


OWN_LOSS = '''"""A loss of one's own."""

from dataclasses import dataclass

from vitjax.detection.loss import SetLoss
from vitjax.tasks.detection import Detection


@dataclass(frozen=True)
class OwnLoss(SetLoss):
    """A subclass of a loss."""

    sharpness: float = 2.0


def experiment():
    return Detection(loss=OwnLoss(sharpness=3.0))
'''


def test_a_config_may_have_a_subclass_of_a_loss_whose_fields_are_flags(tmp_path):
    (tmp_path / "plug.py").write_text(OWN_LOSS)
    config = load_config(str(tmp_path / "plug.py"))
    assert override(config, ["--loss.sharpness", "4"]).loss.sharpness == 4.0
    assert config.source == OWN_LOSS and config.path == tmp_path / "plug.py"


def test_a_config_that_fails_is_no_module_afterwards(tmp_path):
    (tmp_path / "fails.py").write_text("import vitjax.nothing_of_the_kind\n")
    with pytest.raises(ImportError, match="nothing_of_the_kind"):
        load_config(str(tmp_path / "fails.py"))
    assert "vitjax_config_fails" not in sys.modules


def test_the_help_of_a_config_tells_of_forks(capsys):
    with pytest.raises(SystemExit):
        override(load_config("quickstart"), ["--help"])
    assert "--fork [DIR]" in capsys.readouterr().out


@pytest.mark.parametrize("name", [name for name in names() if name.endswith("_imagenet")])
def test_imagenet_is_read_unpacked_or_as_tfds_has_prepared_it_with_one_flag_each(name):
    config = load_config(name)
    assert override(config, ["--data.root", "/data/imagenet"]).data.root == "/data/imagenet"
    assert override(config, ["--data.data-dir", "/data/tfds"]).data.data_dir == "/data/tfds"
    assert f"python train.py {name} --data.root /data/imagenet" in config.text
