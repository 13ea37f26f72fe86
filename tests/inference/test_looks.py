import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from quick import drawn

from vitjax.attention.criss_cross import CrissCrossAttention
from vitjax.attention.non_local import NonLocal
from vitjax.attention.squeeze_excitation import SqueezeExcitation
from vitjax.backbones.resnet import ResNet
from vitjax.classification.classifier import Classifier
from vitjax.classification.recurrent_attention import RecurrentAttention
from vitjax.data.crops import CenterCrop
from vitjax.data.source import Classes
from vitjax.inference.looks import Gates, Glimpses, Heat, Looks, Outline, gathered, looks
from vitjax.inference.looks_picture import draw_looks
from vitjax.inference.seen_image import SeenImage
from vitjax.structs import Images

CLASSES = Classes(("cat", "dog"), (0, 1))
PICTURE = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)  # the model sees the square in its middle
WHOLE = Images(jnp.zeros((1, 32, 32, 3)), jnp.ones((1, 32, 32), bool))
CROP = CenterCrop(size=32, resize=32)


@functools.cache
def seen(attention, stages=(1,)):
    backbone = ResNet(18, width=4, stage_blocks=(1, 1), norm="group", attention=attention, attention_stages=stages)
    model = Classifier(backbone, 2, norm=False)
    variables = drawn(jax.eval_shape(lambda: model.init(jax.random.key(0), WHOLE, train=False)))
    return looks(model, variables, PICTURE, preprocess=CROP, classes=CLASSES)


def by_hand(sown, **fields):
    """Looks at an image of 32 x 32 pixels that the model sees whole."""
    image = SeenImage(np.zeros((32, 32, 3), np.uint8), (32, 32), np.array([0.0, 0.0, 32.0, 32.0]), (32, 32))
    return Looks(image, (32, 32), sown, **fields)


def test_a_pixel_is_told_the_row_of_its_cell():
    weights = np.random.default_rng(0).random((16, 16)).astype(np.float32)
    (heat,) = by_hand({("backbone", "stage_2", "attention", "attention"): (weights,)}).of_pixel(9, 25)
    assert isinstance(heat, Heat) and heat.module == "Stage 2"
    np.testing.assert_array_equal(heat.values, weights[3 * 4 + 1].reshape(4, 4))
    np.testing.assert_array_equal(heat.box, [8, 24, 16, 32])
    np.testing.assert_array_equal(heat.cells[2, 3], [24, 16, 32, 24])


def test_pooled_keys_lie_on_coarser_cells():
    (heat,) = by_hand({("attention",): (np.eye(16, 4, dtype=np.float32),)}).of_pixel(9, 1)
    np.testing.assert_array_equal(heat.values, [[0, 1], [0, 0]])
    np.testing.assert_array_equal(heat.cells[1, 1], [16, 16, 32, 32])


def test_criss_cross_passes_are_followed_to_what_they_gather():
    generator, height, width = np.random.default_rng(0), 3, 4
    passes = tuple(generator.random((height, width, height + width)) for _ in range(2))

    def full(weights):
        """The same weights between all pairs of pixels."""
        matrix = np.zeros((height, width, height, width))
        for i in range(height):
            for j in range(width):
                matrix[i, j, :, j] += weights[i, j, :height]
                matrix[i, j, i, :] += weights[i, j, height:]
        return matrix.reshape(height * width, -1)

    wanted = (full(passes[1]) @ full(passes[0]))[1 * width + 2].reshape(height, width)
    np.testing.assert_allclose(gathered(passes, 1, 2), wanted, rtol=1e-12)


def test_a_transformation_is_drawn_as_what_it_reads():
    half = np.array([[0.5, 0, 0.5], [0, 0.5, -0.5]])  # the upper right quarter
    (outline,) = by_hand({("backbone", "transformer", "theta"): (half,)}, convention="edges").of_pixel(0, 0)
    assert isinstance(outline, Outline)
    np.testing.assert_allclose(outline.values, [[16, 0], [32, 0], [32, 16], [16, 16]])
    (outline,) = by_hand({("theta",): (np.eye(2, 3),)}).of_pixel(0, 0)
    np.testing.assert_allclose(outline.values[[0, 2]], [[0.5, 0.5], [31.5, 31.5]])


def test_modules_come_in_the_order_of_the_network():
    gate = (np.ones(3, np.float32),)
    names = ["stage_10/attention", "stage_2/block_1/attention", "stage_2/block_0/attention"]
    found = by_hand({("backbone", *name.split("/"), "gate"): gate for name in names}).of_pixel(0, 0)
    assert [one.module for one in found] == ["Stage 2, block 0", "Stage 2, block 1", "Stage 10"]
    assert all(isinstance(one, Gates) for one in found)


def test_a_stage_can_be_asked_for():
    found = seen(SqueezeExcitation(2), stages=(1, 2))
    assert [one.module for one in found.of_stage(2).of_pixel(48, 32)] == ["Stage 2, block 0"]
    with pytest.raises(ValueError, match="no attention module in stage 4"):
        found.of_stage(4)


@pytest.mark.parametrize("attention", [NonLocal(norm="none"), CrissCrossAttention()], ids=["non-local", "criss-cross"])
def test_weights_over_pixels_sum_to_one_and_lie_on_what_the_model_sees(attention):
    found = seen(attention)
    (heat,) = found.of_pixel(48, 32)
    np.testing.assert_allclose(heat.values.sum(), 1, rtol=1e-5)
    np.testing.assert_allclose([heat.cells[0, 0, 0], heat.cells[-1, -1, 2]], [16, 80])
    assert found.label in CLASSES.names and 0.5 <= found.score <= 1
    with pytest.raises(ValueError, match="the model sees the square in the middle"):
        found.of_pixel(3, 3)


def test_glimpses_are_boxes_of_the_original_image():
    model = RecurrentAttention(2, glimpses=2, glimpse_size=8, channels=8)
    variables = drawn(jax.eval_shape(lambda: model.init(jax.random.key(0), WHOLE, train=False)))
    (found,) = looks(model, variables, PICTURE, preprocess=CROP, classes=CLASSES).of_pixel(48, 32)
    assert isinstance(found, Glimpses) and found.values.shape == (2, 4)
    np.testing.assert_allclose(found.values[:, 2:] - found.values[:, :2], 16)  # the image was halved


def test_a_model_without_such_modules_is_told_so():
    with pytest.raises(ValueError, match="a Classifier with a ResNet, has none that tells it"):
        seen(None)


def test_the_picture_has_a_panel_for_every_module(tmp_path):
    path = tmp_path / "new" / "looks.png"
    assert len(draw_looks(seen(SqueezeExcitation(2), stages=(1, 2)), (48, 32), path)) == 2
    wide, high = Image.open(path).size
    assert wide > high > 300
    with pytest.raises(ValueError, match=r"\.png, \.pdf or \.svg; got 'looks.txt'"):
        draw_looks(seen(SqueezeExcitation(2), stages=(1, 2)), (48, 32), tmp_path / "looks.txt")
