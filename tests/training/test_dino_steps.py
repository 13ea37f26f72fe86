"""One step of a tiny DINO, on one device and on two; its noise from step to step."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType
from quick import drawn

from vitjax.backbones.resnet import ResNet
from vitjax.detection.dino import DINO
from vitjax.detection.dino_loss import DINOLoss
from vitjax.detection.matcher import match
from vitjax.placement import data_mesh, matching_per_device, place_batch, place_state
from vitjax.runs.optimizer import AdamW
from vitjax.structs import Batch, Images, Targets
from vitjax.tasks.detection import detection_objective
from vitjax.training.state import initial_state
from vitjax.training.steps import make_train_step

MODEL = DINO(
    backbone=ResNet(depth=18, width=8, stage_blocks=(1,)),
    num_classes=3,
    num_queries=5,
    channels=16,
    heads=2,
    encoder_layers=1,
    decoder_layers=1,
    feed_forward=32,
    levels=2,
    backbone_levels=1,
    encoder_points=2,
    decoder_points=2,
    denoising=6,
)
LOSS = DINOLoss()
OPTIMIZER = AdamW(learning_rate=1e-2, eps=1e-3, clip_norm=1.0)


def batch():
    generator = np.random.default_rng(0)
    return Batch(
        pixels=generator.integers(0, 256, (4, 32, 48, 3)).astype(np.uint8),
        sizes=np.array([[32, 48], [20, 48], [32, 31], [25, 40]], np.int32),
        targets=Targets(
            boxes=generator.uniform(0.2, 0.8, (4, 3, 4)).astype(np.float32),
            labels=generator.integers(0, 3, (4, 3)).astype(np.int32),
            valid=np.arange(3) < np.array([[2], [0], [3], [1]]),
        ),
        records=np.arange(4, dtype=np.int32),
        original_sizes=np.full((4, 2), 32, np.int32),
        broken=np.full(4, -1, np.int32),
    )


def variables_of_model():
    images = Images(jnp.zeros((1, 32, 32, 3)), jnp.ones((1, 32, 32), bool))
    return drawn(jax.eval_shape(lambda: MODEL.init(jax.random.key(0), images, train=False)))


@pytest.fixture(scope="module")
def steps():
    """By number of devices: the program of the step, and the metrics and trainable parameters of two steps."""
    variables = variables_of_model()
    trainable, _ = OPTIMIZER.partition(variables["params"])
    transformation = OPTIMIZER.transformation(trainable, total_steps=10, steps_per_epoch=5)
    found = {}
    for devices in (1, 2):
        alone = jax.make_mesh((1,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:1])
        mesh = data_mesh() if devices == 2 else alone
        matching = matching_per_device(functools.partial(match, LOSS.cost), mesh)
        step = jax.jit(make_train_step(detection_objective(MODEL, LOSS, matching), OPTIMIZER, transformation, mesh))
        state = initial_state(jax.tree.map(jnp.array, variables), OPTIMIZER, transformation, seed=0)
        inputs = place_state(state, mesh), [place_batch(batch(), mesh)]
        compiled = step.lower(*inputs).compile()
        found[devices] = (compiled.as_text(), *compiled(*inputs))
    return found


def test_one_step_with_noise_is_the_same_on_one_device_and_on_two(steps):
    (_, one, metrics), (_, two, others) = steps[1], steps[2]
    assert {"denoising_class", "denoising_box", "proposal_giou"} <= metrics.keys()
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4), metrics, others)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-5), one.trainable, two.trainable)


def test_devices_exchange_no_features(steps):
    program = steps[2][0]
    assert "all-reduce" in program
    exchanges = re.findall(r".*= .*(?:all-gather|all-to-all|collective-permute)\(.*", program)
    assert all(re.search(r"= (f32\[4,120\]|\w+\[\d\])\{", line) for line in exchanges), exchanges


def test_noise_follows_from_the_key_of_the_step():
    variables = variables_of_model()
    evaluate = jax.jit(detection_objective(MODEL, LOSS, functools.partial(match, LOSS.cost)).evaluate)

    def terms(seed):
        terms = evaluate(variables, batch(), jax.random.key(seed)).terms
        return {name: float(mean.value[-1]) for name, mean in terms.items() if name not in ("class_error",)}

    one, again, other = terms(0), terms(0), terms(1)
    assert one == again
    changed = {name for name in one if one[name] != other[name]}
    assert changed == {"denoising_class", "denoising_box", "denoising_giou"}
