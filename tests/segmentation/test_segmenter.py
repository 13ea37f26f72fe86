import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from quick import drawn

from vitjax.backbones.resnet import ResNet
from vitjax.segmentation.criss_cross_head import CrissCrossHead
from vitjax.segmentation.dual_head import DualAttentionHead
from vitjax.segmentation.fcn_head import FCNHead
from vitjax.segmentation.segmenter import Segmenter
from vitjax.structs import Images

THIN = ResNet(depth=18, width=8, stage_blocks=(1, 1), norm="group")
PLAIN = Segmenter(THIN, FCNHead(norm="group"), FCNHead(norm="group"), num_classes=3)
HEADS = {
    "plain": (FCNHead(dtype="bfloat16"), 1),
    "dual": (DualAttentionHead(channels=8), 3),
    "criss-cross": (CrissCrossHead(channels=8, hidden=8), 1),
}


def images(height, width, bucket=None):
    pixels = np.random.default_rng(1).normal(size=(1, height, width, 3)).astype(np.float32)
    room = [(0, large - side) for large, side in zip(bucket or (height, width), (height, width), strict=True)]
    valid = np.pad(np.ones((1, height, width), bool), [(0, 0), *room])
    return Images(jnp.asarray(np.pad(pixels, [(0, 0), *room, (0, 0)])), jnp.asarray(valid))


def shapes_of(model):
    return jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), images(32, 32))


@pytest.fixture(scope="module")
def variables():
    return drawn(shapes_of(PLAIN))


def test_a_padded_image_is_labelled_as_it_is_alone(variables):
    run = jax.jit(lambda image: PLAIN.apply(variables, image, train=False))
    alone, padded = run(images(30, 37)), run(images(30, 37, bucket=(40, 64)))
    np.testing.assert_allclose(padded.outputs[:, :, :30, :37], alone.outputs, atol=1e-4)
    np.testing.assert_allclose(padded.auxiliary[:, :30, :37], alone.auxiliary, atol=1e-4)


def test_without_padding_the_two_ways_to_enlarge_are_one(variables):
    models = PLAIN, PLAIN.clone(padding="reference")
    one, other = jax.jit(lambda image: [model.apply(variables, image, train=False) for model in models])(images(32, 40))
    np.testing.assert_allclose(one.outputs, other.outputs, atol=1e-4)
    np.testing.assert_allclose(one.auxiliary, other.auxiliary, atol=1e-4)


@pytest.mark.parametrize("name", HEADS)
def test_every_output_of_a_head_is_as_large_as_the_image(name):
    head, outputs = HEADS[name]
    model = Segmenter(THIN, head, num_classes=3)
    answer = jax.eval_shape(functools.partial(model.apply, train=False), shapes_of(model), images(32, 48))
    assert answer.outputs.shape == (outputs, 1, 32, 48, 3) and answer.auxiliary is None
    assert answer.outputs.dtype == jnp.float32


def test_what_a_segmenter_cannot_do_without_is_named():
    with pytest.raises(ValueError, match="Segmenter needs num_classes"):
        shapes_of(PLAIN.clone(num_classes=None))
    with pytest.raises(ValueError, match="255 classes at most; got num_classes=256"):
        shapes_of(PLAIN.clone(num_classes=256))
    with pytest.raises(ValueError, match="the backbone gives only one"):
        shapes_of(PLAIN.clone(backbone=THIN.clone(stage_blocks=(1,))))
