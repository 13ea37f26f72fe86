"""One step of a tiny two-stage Deformable DETR, on one device and on two."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType
from quick import drawn

from vitjax.backbones.resnet import ResNet
from vitjax.detection.deformable_detr import DeformableDETR
from vitjax.detection.focal_loss import FocalSetLoss
from vitjax.detection.matcher import match
from vitjax.placement import data_mesh, matching_per_device, place_batch, place_state
from vitjax.runs.optimizer import AdamW
from vitjax.structs import Batch, Images, Targets
from vitjax.tasks.detection import detection_objective
from vitjax.training.state import initial_state
from vitjax.training.steps import make_train_step

MODEL = DeformableDETR(
    backbone=ResNet(depth=18, width=8, stage_blocks=(1,)),
    num_classes=3,
    num_queries=5,
    channels=16,
    heads=2,
    encoder_layers=1,
    decoder_layers=1,
    feed_forward=32,
    dropout=0.0,
    levels=2,
    backbone_levels=1,
    encoder_points=2,
    decoder_points=2,
    refine=True,
    two_stage=True,
)
LOSS = FocalSetLoss()
OPTIMIZER = AdamW(learning_rate=1e-2, eps=1e-3, clip_norm=1.0, multipliers={"sampling_offsets": 0.1})


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


@pytest.fixture(scope="module")
def steps():
    """By number of devices: the compiled step, and the state and metrics after it."""
    images = Images(jnp.zeros((1, 32, 32, 3)), jnp.ones((1, 32, 32), bool))
    variables = drawn(jax.eval_shape(lambda: MODEL.init(jax.random.key(0), images, train=False)))
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


def test_one_step_with_proposals_is_the_same_on_one_device_and_on_two(steps):
    (_, one, metrics), (_, two, others) = steps[1], steps[2]
    assert {"proposal_class", "proposal_box", "proposal_giou"} <= metrics.keys()
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4), metrics, others)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-5), one.trainable, two.trainable)


def test_devices_exchange_sums_and_the_ranks_of_proposals_and_nothing_else(steps):
    """XLA's top-k is not divided among devices; what it gathers is one number for each token."""
    program = steps[2][0]
    assert "all-reduce" in program
    exchanges = re.findall(r".*= .*(?:all-gather|all-to-all|collective-permute)\(.*", program)
    assert all(re.search(r"= f32\[4,120\]\{", line) for line in exchanges), exchanges  # images, tokens of an image
