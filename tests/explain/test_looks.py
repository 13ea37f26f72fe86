import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from quick import drawn

from vitjax.attention.criss_cross import CrissCrossAttention
from vitjax.attention.non_local import NonLocal
from vitjax.attention.spatial_transformer import SpatialTransformer
from vitjax.attention.squeeze_excitation import SqueezeExcitation
from vitjax.backbones.resnet import ResNet
from vitjax.backbones.spatially_transformed import SpatiallyTransformed
from vitjax.classification.classifier import Classifier
from vitjax.classification.recurrent_attention import RecurrentAttention
from vitjax.data.crops import CenterCrop
from vitjax.data.source import Classes
from vitjax.data.transforms import Resize
from vitjax.detection.deformable_detr import DeformableDETR
from vitjax.detection.postprocess import TopDetections
from vitjax.explain.explain import explain
from vitjax.explain.looks import Looks, gathered, looks_of, stride_of
from vitjax.explain.looks_picture import draw_looks
from vitjax.explain.seen_image import SeenImage
from vitjax.explain.subject import Subject
from vitjax.inference.predictor import Predictor
from vitjax.structs import Images
from vitjax.tasks.detection import Detector

CLASSES = Classes(("cat", "dog"), (0, 1))
PICTURE = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)  # the model sees the square in its middle
WHOLE = Images(jnp.zeros((1, 32, 32, 3)), jnp.ones((1, 32, 32), bool))
CROP = CenterCrop(size=32, resize=32)


@functools.cache
def seen(attention, stages=(1,)):
    backbone = ResNet(18, width=4, stage_blocks=(1, 1), norm="group", attention=attention, attention_stages=stages)
    model = Classifier(backbone, 2, norm=False)
    variables = drawn(jax.eval_shape(lambda: model.init(jax.random.key(0), WHOLE, train=False)))
    return looks_of(Subject(model, variables, CROP, CLASSES), PICTURE)


def by_hand(sown, side=32):
    """Looks at a square image that the model sees whole."""
    extent = np.array([0.0, 0.0, side, side])
    image = SeenImage(np.zeros((side, side, 3), np.uint8), (side, side), extent, (side, side))
    return Looks(image, (side, side), sown)


def test_a_pixel_is_told_the_row_of_its_cell():
    weights = np.random.default_rng(0).random((16, 16)).astype(np.float32)
    (heat,) = by_hand({("backbone", "stage_2", "attention", "attention"): (weights,)}).of_pixel(9, 25)
    assert heat.form == "heat" and heat.module == "Stage 2"
    np.testing.assert_array_equal(heat.values, weights[3 * 4 + 1].reshape(4, 4))
    np.testing.assert_array_equal(heat.box, [8, 24, 16, 32])
    np.testing.assert_array_equal(heat.grid.cells[2, 3], [24, 16, 32, 24])


def test_pooled_keys_lie_on_coarser_cells():
    (heat,) = by_hand({("attention",): (np.eye(16, 4, dtype=np.float32),)}).of_pixel(9, 1)
    np.testing.assert_array_equal(heat.values, [[0, 1], [0, 0]])
    np.testing.assert_array_equal(heat.grid.cells[1, 1], [16, 16, 32, 32])


@pytest.mark.parametrize("side", [32, 36, 50, 56, 224, 225], ids=str)
def test_the_stride_of_a_map_is_found_where_the_last_cells_reach_beyond_the_image(side):
    cells = side
    for stride in (1, 2, 4, 8, 16, 32):
        assert stride_of((cells, 3 * cells), (side, 3 * side)) == stride
        cells = -(-cells // 2)


@pytest.mark.parametrize(("side", "stride"), [(50, 4), (56, 8), (224, 32)], ids=["50 px", "56 px", "224 px"])
def test_cells_lie_at_their_stride_where_it_does_not_divide_the_sides(side, stride):
    cells = -(-side // stride)
    place = (4 * stride + 1, 2 * stride + 1)
    whole, pooled = np.eye(cells**2), np.eye(cells**2, (cells // 2) ** 2)
    row = 2 * cells + 4
    pooled[row], pooled[row, cells // 2 + 2] = 0, 1
    cross, mask = np.zeros((cells, cells, 2 * cells)), np.zeros((cells, cells, 1))
    cross[2, 4, cells + 4] = mask[2, 4] = 1
    names = {"stage_1/attention": whole, "stage_2/attention": pooled, "stage_3/attention": cross, "stage_4/mask": mask}
    heats = by_hand({tuple(name.split("/")): (one,) for name, one in names.items()}, side).of_pixel(*place)
    left, top = 4 * stride, 2 * stride
    for heat, wide in zip(heats, (1, 2, 1, 1), strict=True):
        box = heat.grid.cells[np.unravel_index(heat.values.argmax(), heat.values.shape)]
        np.testing.assert_array_equal(box, [left, top, left + wide * stride, top + wide * stride])
        assert heat.box is None or (heat.box[:2] == [left, top]).all()


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
    quarter = np.array([[0.5, 0], [1, 0], [1, 0.5], [0.5, 0.5]])  # the upper right one
    cut = SeenImage(np.zeros((32, 64, 3), np.uint8), (32, 64), np.array([16.0, 0, 48, 32]), (16, 16))
    (outline,) = Looks(cut, (16, 16), {("backbone", "transformer", "outline"): (quarter,)}).of_pixel(20, 0)
    assert outline.form == "outline" and outline.module == "Transformer"
    np.testing.assert_allclose(outline.values, [[32, 0], [48, 0], [48, 16], [32, 16]])


def test_modules_come_in_the_order_of_the_network():
    gate = (np.ones(3, np.float32),)
    names = ["stage_10/attention", "stage_2/block_1/attention", "stage_2/block_0/attention"]
    found = by_hand({("backbone", *name.split("/"), "gate"): gate for name in names}).of_pixel(0, 0)
    assert [one.module for one in found] == ["Stage 2, block 0", "Stage 2, block 1", "Stage 10"]
    assert all(one.form == "gates" for one in found)


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
    np.testing.assert_allclose([heat.grid.cells[0, 0, 0], heat.grid.cells[-1, -1, 2]], [16, 80])
    assert found.label in CLASSES.names and 0.5 <= found.score <= 1
    with pytest.raises(ValueError, match="the model sees the square in the middle"):
        found.of_pixel(3, 3)


@pytest.mark.parametrize("kernel", ["gaussian", "embedded_gaussian", "dot_product", "concatenation"])
def test_weights_of_every_kernel_can_be_drawn(kernel, tmp_path):
    module, x = NonLocal(kernel, norm="none"), jax.random.normal(jax.random.key(0), (1, 4, 4, 6))
    variables = drawn(jax.eval_shape(module.init, jax.random.key(0), x))
    _, kept = module.apply(variables, x, mutable=["intermediates"])
    weights = np.asarray(kept["intermediates"]["attention"][0][0])
    (heat,) = draw_looks(by_hand({("stage_1", "attention"): (weights,)}), (9, 25), tmp_path / "kernel.png", dpi=30)
    np.testing.assert_array_equal(heat.values.ravel(), weights[3 * 4 + 1])
    assert heat.signed == heat.kind.startswith("signed") == (kernel == "dot_product") == (weights.min() < 0)


def test_stage_0_of_a_detector_is_all_of_its_backbone(tmp_path):
    inner = ResNet(18, width=4, stage_blocks=(1,), attention=SqueezeExcitation(2), attention_stages=(1,))
    backbone = SpatiallyTransformed(inner, SpatialTransformer(features=(3,), hidden=4, convention="edges"))
    sizes = {"channels": 8, "heads": 2, "feed_forward": 8, "encoder_layers": 0, "decoder_layers": 1}
    model = DeformableDETR(backbone, 2, num_queries=2, levels=1, backbone_levels=1, **sizes)
    variables = drawn(jax.eval_shape(lambda: model.init(jax.random.key(0), WHOLE, train=False)))
    variables["params"]["backbone"]["transformer"]["last"] = {
        "kernel": np.zeros((4, 6), np.float32),
        "bias": np.float32([0.5, 0, 0.5, 0, 0.5, -0.5]),  # the upper right quarter
    }
    resize = Resize(size=24, max_side=64)  # 24 x 36 pixels, padded to 32 x 64
    predictor = Predictor(Detector(model, resize, TopDetections()), variables, CLASSES)
    found = predictor.looks(PICTURE)
    gates, outline = found.of_pixel(0, 0)  # and nothing of where the decoder samples
    assert (gates.form, outline.form) == ("gates", "outline")
    np.testing.assert_allclose(outline.values, [[48, 0], [96, 0], [96, 32], [48, 32]], atol=1e-4)
    said = explain(predictor.subject, PICTURE, str(tmp_path / "all.png"), stage=0)
    assert "Stage 1, block 0: factors" in said[0] and "Transformer: what is read of the image" in said[0]


def test_stage_0_leaves_out_what_is_not_in_the_backbone():
    gate = (np.ones(3, np.float32),)
    found = by_hand({("backbone", "stage_2", "gate"): gate, ("head", "gate"): gate})
    assert [one.module for one in found.of_pixel(0, 0)] == ["Stage 2", "Head"]
    assert [one.module for one in found.of_stage(0).of_pixel(0, 0)] == ["Stage 2"]
    with pytest.raises(ValueError, match="no attention module in the backbone of this model"):
        by_hand({("head", "gate"): gate}).of_stage(0)


def test_glimpses_are_boxes_of_the_original_image():
    model = RecurrentAttention(2, glimpses=2, glimpse_size=8, channels=8)
    variables = drawn(jax.eval_shape(lambda: model.init(jax.random.key(0), WHOLE, train=False)))
    (found,) = looks_of(Subject(model, variables, CROP, CLASSES), PICTURE).of_pixel(48, 32)
    assert found.form == "glimpses" and found.values.shape == (2, 4)
    np.testing.assert_allclose(found.values[:, 2:] - found.values[:, :2], 16)  # the image was halved


def test_a_model_without_such_modules_is_told_so():
    with pytest.raises(ValueError, match="a Classifier with a ResNet, has none that tells it"):
        seen(None, stages=ResNet.attention_stages)


def test_the_picture_has_a_panel_for_every_module(tmp_path):
    path = tmp_path / "new" / "looks.png"
    assert len(draw_looks(seen(SqueezeExcitation(2), stages=(1, 2)), (48, 32), path)) == 2
    wide, high = Image.open(path).size
    assert wide > high > 300
    with pytest.raises(ValueError, match=r"\.png, \.pdf or \.svg; got 'looks.txt'"):
        draw_looks(seen(SqueezeExcitation(2), stages=(1, 2)), (48, 32), tmp_path / "looks.txt")
