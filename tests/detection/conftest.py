"""A DETR small enough to compile in seconds, drawn variables for it, and two images of unlike sizes in one batch."""

import functools
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from quick import drawn

from vitjax.backbones.resnet import ResNet
from vitjax.detection.detr import DETR
from vitjax.structs import Images


@pytest.fixture(scope="session")
def tiny():
    """`model`, its `variables`, `images`, and `predict(variables, images, train=..., seed=..., **fields of model)`."""
    model = DETR(
        backbone=ResNet(depth=18, width=8, stage_blocks=(1, 1)),
        num_classes=3,
        num_queries=5,
        channels=16,
        heads=2,
        encoder_layers=1,
        decoder_layers=2,
        feed_forward=32,
        dropout=0.3,
    )
    valid = np.zeros((2, 48, 64), bool)
    valid[0, :, :] = valid[1, :37, :50] = True
    pixels = np.random.default_rng(0).normal(size=(2, 48, 64, 3)).astype(np.float32) * valid[..., None]
    images = Images(pixels, valid)

    @functools.cache
    def compiled(train, fields):
        changed = model.clone(**dict(fields))
        return jax.jit(
            lambda variables, *inputs, key: changed.apply(variables, *inputs, train=train, rngs={"dropout": key})
        )

    def predict(variables, images=images, *, train=False, seed=0, **fields):
        return jax.device_get(compiled(train, tuple(fields.items()))(variables, images, key=jax.random.key(seed)))

    def variables_of(**fields):
        init = functools.partial(model.clone(**fields).init, train=False)
        return drawn(jax.eval_shape(init, jax.random.key(0), images))

    return SimpleNamespace(
        model=model, images=images, variables=variables_of(), predict=predict, variables_of=variables_of
    )
