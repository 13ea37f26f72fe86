"""Any backbone serves any detector: one line in a config."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from quick import drawn

from vitjax.backbones.crossformer import CrossFormer, crossformer_small
from vitjax.backbones.resnet import ResNet
from vitjax.detection.deformable_detr import DeformableDETR
from vitjax.detection.detr import DETR
from vitjax.structs import Images

SIZES = {"num_classes": 3, "num_queries": 4, "channels": 16, "heads": 2, "feed_forward": 16, "dropout": 0.0}
LAYERS = {"encoder_layers": 1, "decoder_layers": 1}
THIN = CrossFormer(
    channels=8, depths=(1, 2), heads=(1, 2), group_sizes=(3, 3), intervals=(2, 2), drop_path=0.0, cooling=True
)
DETECTORS = {
    "detr": DETR(backbone=THIN, **SIZES, **LAYERS),
    "deformable": DeformableDETR(backbone=THIN, levels=3, backbone_levels=2, **SIZES, **LAYERS),
}


def images(height, width, bucket=None):
    pixels = np.random.default_rng(0).normal(size=(1, height, width, 3)).astype(np.float32)
    rows, columns = bucket or (height, width)
    room = ((0, 0), (0, rows - height), (0, columns - width))
    return Images(jnp.pad(jnp.asarray(pixels), (*room, (0, 0))), jnp.pad(jnp.ones((1, height, width), bool), room))


def shapes_of(model, **changes):
    init = functools.partial(model.clone(**changes).init, train=False)
    return jax.eval_shape(init, jax.random.key(0), images(32, 32))


@pytest.mark.parametrize("detector", [DETR, DeformableDETR])
def test_crossformer_takes_resnets_place_in_a_published_detector(detector):
    model = detector(backbone=crossformer_small(), num_classes=91)
    run = functools.partial(model.init_with_output, train=False)
    predictions, variables = jax.eval_shape(run, jax.random.key(0), images(320, 416))
    assert predictions.boxes.shape == (6, 1, model.num_queries, 4)
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"]["backbone"])) == 29_886_858


@pytest.mark.parametrize("name", DETECTORS)
def test_a_detector_with_crossformer_has_finite_gradients_everywhere(name):
    model = DETECTORS[name]
    variables = drawn(shapes_of(model))

    def loss(params):
        predictions = model.apply({"params": params}, images(37, 52), train=True, rngs={"dropout": jax.random.key(0)})
        return (predictions.logits**2).sum() + (predictions.boxes**2).sum()

    gradients = jax.jit(jax.grad(loss))(variables["params"])
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))
    assert all(np.any(leaf) for leaf in jax.tree.leaves(gradients["backbone"]["stage_1"]["embedding"]))


@pytest.mark.parametrize("name", DETECTORS)
def test_a_padded_image_is_seen_as_it_is_alone(name):
    model = DETECTORS[name]
    variables = drawn(shapes_of(model))
    run = jax.jit(lambda batch: model.apply(variables, batch, train=False))
    alone, padded = run(images(37, 52)), run(images(37, 52, bucket=(64, 80)))
    np.testing.assert_allclose(padded.logits, alone.logits, atol=1e-4)
    np.testing.assert_allclose(padded.boxes, alone.boxes, atol=1e-4)


def test_drop_path_of_the_backbone_acts_when_the_detector_trains():
    model = DETECTORS["detr"].clone(backbone=THIN.clone(drop_path=0.9))
    variables = drawn(shapes_of(model))
    run = jax.jit(
        lambda train, key: model.apply(variables, images(32, 32), train=train, rngs={"dropout": key}).logits,
        static_argnums=0,
    )
    keys = [jax.random.key(i) for i in range(4)]
    for train in (False, True):
        first, *others = [run(train, key) for key in keys]
        assert any((other != first).any() for other in others) == train


def test_training_makes_no_difference_to_resnet():
    model = ResNet(depth=18, width=4, stage_blocks=(1,))
    shapes = [
        jax.eval_shape(functools.partial(model.init_with_output, train=train), jax.random.key(0), images(32, 32))
        for train in (False, True)
    ]
    assert shapes[0] == shapes[1]
