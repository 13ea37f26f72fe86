"""The published weights of EfficientNet-Lite0, from the installed package: what they say, and what is done with them.

coffee.jpg is the middle of scikit-image's picture of that name, which is in the public domain (CC0).
"""

import dataclasses
import functools
import importlib.util
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from efficientnet_oracle import Published, timm_names
from PIL import Image
from quick import drawn

from vitjax.backbones.efficientnet_lite import efficientnet_lite0
from vitjax.batch import Batch, Targets
from vitjax.checkpoints.paths import flatten
from vitjax.commands.main import main
from vitjax.detection.deformable_detr import DeformableDETR
from vitjax.detection.focal_loss import FocalSetLoss
from vitjax.detection.matcher import match
from vitjax.families.installed import WHEELS, installed
from vitjax.formats.tensor_files import read_tensors
from vitjax.placement import data_mesh, matching_per_device
from vitjax.runs.configs import load_config
from vitjax.runs.initial import initialize_from
from vitjax.runs.optimizer import AdamW
from vitjax.runs.read_model import read_model
from vitjax.tasks.detection import detection_objective
from vitjax.tasks.load import predictor_of
from vitjax.training.state import init, initial_state
from vitjax.training.steps import make_train_step

NAME = "efficientnet-lite0"
COFFEE = Path(__file__).with_name("coffee.jpg")
BLOCKS = (1, 2, 2, 3, 3, 4, 1)
SAID = {  # by the port's own code
    "coffee.png": {"espresso": 0.94},
    "camera.png": {"tripod": 0.95},
    "motorcycle_left.png": {"moped": 0.71},
    "chelsea.png": {"Egyptian cat": 0.38, "tiger cat": 0.33},
    "rocket.jpg": {"missile": 0.27},
}

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec(WHEELS[NAME].module) is None, reason="needs pip install vitjax[pretrained]"
)


@pytest.fixture(scope="module")
def file():
    return read_model(NAME)


@pytest.fixture(scope="module")
def predictor(file):
    return predictor_of(dataclasses.replace(file, postprocess=dataclasses.replace(file.postprocess, k=1000)))


def probabilities(predictor, image):
    found = predictor(image)
    return dict(zip(found.names, np.asarray(found.scores), strict=True))


@functools.cache
def published():
    return Published(timm_names(read_tensors(installed(NAME)).tensors, BLOCKS))


def test_the_answer_is_that_of_the_published_network_in_double_precision(predictor, file):
    pixels = np.asarray(Image.open(COFFEE))
    logits = published().logits((pixels.astype(np.float64) - 127) / 128)
    wanted = np.exp(logits - logits.max())
    found = probabilities(predictor, str(COFFEE))
    assert next(iter(found)) == "espresso" and found["espresso"] > 0.7
    names = file.classes.names
    for label, share in enumerate(wanted / wanted.sum()):
        assert found[names[label]] == pytest.approx(share, abs=1e-5) or names.count(names[label]) > 1


@pytest.mark.parametrize("name", SAID)
def test_pictures_of_scikit_image_are_what_the_port_says(name, predictor):
    if (spec := importlib.util.find_spec("skimage")) is None:
        pytest.skip("needs scikit-image")
    found = probabilities(predictor, str(Path(spec.submodule_search_locations[0], "data", name)))
    for wanted, share in SAID[name].items():
        assert found[wanted] == pytest.approx(share, abs=0.0051)
    assert next(iter(found)) == next(iter(SAID[name]))


def test_commands_take_the_name_for_a_path(tmp_path, capsys):
    assert main(["predict", NAME, str(COFFEE), "--out", str(tmp_path / "out")]) == 0
    assert "%  espresso" in capsys.readouterr().out
    assert main(["convert", NAME, str(tmp_path / "back.pth")]) == 0
    given, back = (read_tensors(path).tensors for path in (installed(NAME), tmp_path / "back.pth"))
    assert given.keys() - back.keys() == {name for name in given if name.endswith("num_batches_tracked")}
    assert all(given[name].tobytes() == tensor.tobytes() for name, tensor in back.items())
    assert main(["export", NAME, str(tmp_path / "exported")]) == 0
    about = json.loads((tmp_path / "exported" / "model.json").read_text())
    assert about["classes"][967] == "espresso" and about["batch"] != 1
    capsys.readouterr()
    assert main(["explain", NAME, str(COFFEE), "--out", str(tmp_path / "a.png")]) == 1
    assert "has none that tells it" in capsys.readouterr().err


DETECTOR = DeformableDETR(
    backbone=efficientnet_lite0(),
    num_classes=3,
    num_queries=5,
    channels=16,
    heads=2,
    encoder_layers=1,
    decoder_layers=1,
    feed_forward=32,
)


def detections():
    rng = np.random.default_rng(0)
    return Batch(
        pixels=rng.integers(0, 256, (2, 64, 96, 3)).astype(np.uint8),
        sizes=np.array([[64, 96], [50, 71]], np.int32),
        targets=Targets(
            boxes=rng.uniform(0.2, 0.8, (2, 3, 4)).astype(np.float32),
            labels=rng.integers(0, 3, (2, 3)).astype(np.int32),
            valid=np.arange(3) < np.array([[2], [3]]),
        ),
        records=np.arange(2, dtype=np.int32),
        original_sizes=np.full((2, 2), 64, np.int32),
        broken=np.full(2, -1, np.int32),
    )


def drawn_of(model):
    """A model's first variables, drawn by NumPy: nothing of the model is compiled for them."""
    return drawn(jax.eval_shape(lambda: init(model, 0)))


def test_a_detector_trains_from_the_published_backbone(file):
    frozen = ("^backbone/stem", "^backbone/stage_[12]/")
    start = drawn_of(DETECTOR)
    variables, notes = initialize_from(NAME, start, frozen=lambda path: path.startswith("backbone/st"))
    assert any("head" in line and "not used" in line for line in notes)
    taken, given = flatten(variables), flatten(file.variables)
    below = [path for path in taken if "/backbone/" in path]
    assert below and all(np.array_equal(taken[path], given[path]) for path in below)
    optimizer = AdamW(learning_rate=1e-3, frozen=frozen)
    trainable, _ = optimizer.partition(variables["params"])
    transformation = optimizer.transformation(trainable, total_steps=4, steps_per_epoch=2)
    loss, mesh = FocalSetLoss(), data_mesh()
    objective = detection_objective(DETECTOR, loss, matching_per_device(functools.partial(match, loss.cost), mesh))
    step = jax.jit(make_train_step(objective, optimizer, transformation, mesh))
    state = initial_state(variables, optimizer, transformation, seed=0)
    after, metrics = step(state, [jax.tree.map(jnp.asarray, detections())])
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(metrics))
    moved = flatten(after.trainable)
    assert not any("stage_1/" in path or "stem" in path for path in moved)
    late = [path for path in moved if "stage_7" in path]
    assert late and all(not np.array_equal(moved[path], taken[f"params/{path}"]) for path in late)


def test_the_config_for_ones_own_folder_starts_from_it():
    experiment = load_config("efficientnet_lite0_finetune").experiment
    assert experiment.init_from == NAME and experiment.model.backbone.head
    _, notes = initialize_from(NAME, drawn_of(experiment.model.clone(num_classes=2)))
    assert notes[0].startswith("245 of 247 arrays are taken")
