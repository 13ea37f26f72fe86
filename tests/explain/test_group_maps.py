"""Which tokens share a group with a pixel's: by the paper's definition, by what changes the output, off the padding."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from quick import drawn

from vitjax.attention.lsda import LongShortDistanceAttention
from vitjax.backbones.crossformer import CrossFormer
from vitjax.backbones.resnet import ResNet
from vitjax.classification.classifier import Classifier
from vitjax.data.crops import CenterCrop
from vitjax.data.source import Classes
from vitjax.data.transforms import Resize
from vitjax.detection.detr import DETR
from vitjax.explain.group_maps import GroupedBlock, groups_of
from vitjax.explain.seen_image import see
from vitjax.explain.subject import Subject
from vitjax.ops.groups import Grid
from vitjax.structs import Images

BACKBONE = CrossFormer(8, depths=(2, 1), heads=(2, 2), group_sizes=(3, 3), intervals=(2, 1), patch_kernels=(4, 8))
SIZES = {"channels": 16, "heads": 2, "feed_forward": 16, "encoder_layers": 1, "decoder_layers": 1}
DETECTOR = DETR(BACKBONE, num_classes=3, num_queries=4, **SIZES)
CLASSIFIER = Classifier(BACKBONE, num_classes=3)
CLASSES = Classes(("ant", "bee", "cat"), (1, 2, 3))
# 30 x 40 pixels become 36 x 48 and are padded to 64 x 64: of 16 x 16 tokens 9 x 12 lie on the image, of 8 x 8 5 x 6.
IMAGE = np.random.default_rng(0).integers(0, 255, (30, 40, 3), dtype=np.uint8)
RESIZE = Resize(size=36, max_side=64)


def variables_of(model):
    images = Images(np.zeros((1, 64, 64, 3), np.float32), np.ones((1, 64, 64), bool))
    return drawn(jax.eval_shape(partial(model.init, train=False), jax.random.key(0), images))


@pytest.fixture(scope="module")
def padded():
    return groups_of(Subject(DETECTOR, variables_of(DETECTOR), RESIZE, CLASSES, 64), IMAGE)


@pytest.fixture(scope="module")
def square():
    variables = variables_of(CLASSIFIER)
    variables["params"]["head"] = {
        "kernel": np.zeros_like(variables["params"]["head"]["kernel"]),
        "bias": np.log(np.array([1, 2, 5], np.float32)),
    }
    return groups_of(Subject(CLASSIFIER, variables, CenterCrop(32, 36), CLASSES), IMAGE)


def members(place, size, side, interval):
    """The tokens that share a group with one, by the definition: in its region, at a multiple of the interval."""
    found = np.zeros(size, bool)
    for other in np.ndindex(size):
        found[other] = all(
            a // (side * interval) == b // (side * interval) and (a - b) % interval == 0
            for a, b in zip(place, other, strict=True)
        )
    return found


@pytest.mark.parametrize(("block", "interval"), [(0, 1), (1, 2)], ids=["short", "long"])
@pytest.mark.parametrize("pixel", [(0, 0), (39, 29), (23, 11), (8, 28)], ids=str)
def test_a_group_has_the_members_of_the_definition_and_all_the_weight(padded, block, interval, pixel):
    found = padded.of_pixel(*pixel, block=block)
    place = int((pixel[1] + 0.5) * 36 / 30 // 4), int((pixel[0] + 0.5) * 48 / 40 // 4)
    assert found.interval == interval
    np.testing.assert_array_equal(found.members, members(place, (9, 12), 3, interval))
    attention = found.attention
    np.testing.assert_allclose(attention.weights.sum((1, 2)), 1, atol=1e-5)
    assert np.all((attention.mean > 0) == found.members) and attention.on_padding < 1e-5
    np.testing.assert_allclose(attention.question.box, attention.grid.cells[place], rtol=1e-6)


def test_tokens_and_weights_that_are_sown_are_those_that_the_output_depends_on():
    module, grid = LongShortDistanceAttention(2), Grid(5, 7, (2, 3), 2, rows=(1, 2), columns=(0, 5))
    x = jnp.asarray(np.random.default_rng(1).normal(size=(1, 5, 7, 8)), jnp.float32)
    variables = drawn(jax.eval_shape(lambda: module.init(jax.random.key(0), x, grid)))

    def mixed(x):
        found, kept = module.apply(variables, x, grid, mutable=["intermediates"])
        return found.sum((0, 3)), kept["intermediates"]

    slope, kept = jax.device_get(jax.jit(jax.jacrev(mixed, has_aux=True))(x))
    depends = (np.abs(slope).sum((2, 5)) > 0).reshape(35, 35)
    found = np.zeros((35, 35))
    for tokens, weights in zip(kept["tokens"][0], kept["weights"][0][0].mean(1), strict=True):
        inside = np.flatnonzero(tokens >= 0)
        found[np.ix_(tokens[inside], tokens[inside])] = weights[np.ix_(inside, inside)]
    np.testing.assert_array_equal(found > 0, depends)
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-5)


def test_the_first_short_and_the_first_long_block_are_taken_as_far_as_there_are(padded):
    assert [(one.attention.question.layer, one.interval) for one in padded.both(3, 4)] == [(0, 1), (1, 2)]
    assert [(one.attention.question.layer, one.interval) for one in padded.both(3, 4, stage=2)] == [(0, 1)]
    assert padded.both(3, 4, stage=2)[0].attention.mean.shape == (5, 6)


def test_a_group_is_told_in_words(padded):
    short, far = padded.both(0, 0)
    assert (short.attention.question.place, short.spread) == ("stage 1, block 0 (of 2)", "3 x 3 tokens, neighbours")
    assert (far.attention.question.place, far.spread) == ("stage 1, block 1 (of 2)", "3 x 3 tokens, every 2nd")


@pytest.mark.parametrize(
    ("tokens", "interval"),
    [([[0, 1, 7, 8], [2, 3, 9, 10]], 1), ([[0, 3, 21, 24], [-1, -1, 22, 25]], 3), ([[0, 14]], 2), ([[5]], 1)],
    ids=["window", "padded", "one column", "one token"],
)
def test_the_interval_is_read_from_the_tokens(tokens, interval):
    block = GroupedBlock(np.array(tokens), np.zeros((len(tokens), 1, 1, 1), np.float32))
    assert block.interval(columns=7) == interval


def test_a_classifier_tells_what_it_takes_the_image_for(square):
    found = square.of_pixel(20, 15).attention.question
    assert (found.label, found.score) == ("cat", pytest.approx(5 / 8))


def test_the_square_of_a_classifier_lies_in_pixels_of_the_original(square):
    image = square.grids[0].image
    np.testing.assert_allclose(image.extent, [8 * 40 / 48, 2 * 30 / 36, 40 * 40 / 48, 34 * 30 / 36])
    assert image.pixels.shape == (32, 32, 3) and [grid.map for grid in square.grids] == [(8, 8), (4, 4)]
    corner, last = (square.of_pixel(*pixel).attention.question.box for pixel in ((7, 2), (32, 27)))
    np.testing.assert_allclose(corner[:2], image.extent[:2])
    np.testing.assert_allclose(last[2:], image.extent[2:])


@pytest.mark.parametrize("nearest", [False, True])
@pytest.mark.parametrize("size", [(90, 40), (41, 60), (64, 64)], ids=str)
def test_the_square_shows_what_lies_in_its_extent(size, nearest):
    ramp = np.stack(np.broadcast_arrays(*np.ogrid[: size[0], : size[1]], 0), axis=-1).astype(np.uint8)
    seen, _ = see(ramp, CLASSES, CenterCrop(32, 36, nearest))
    down, across = seen.pixels[..., 0].mean(), seen.pixels[..., 1].mean()
    left, top, right, bottom = seen.extent - 0.5  # the ramp has its value in the middle of a pixel
    np.testing.assert_allclose([across, down], [(left + right) / 2, (top + bottom) / 2], atol=0.6)


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda s: s.of_pixel(0, 0), r"the square in the middle, x from 7 to 32 and y from 2 to 27; got 0 0"),
        (lambda s: s.of_pixel(40, 0), "x from 0 to 39 and y from 0 to 29; got 40 0"),
        (lambda s: s.of_pixel(20, 15, stage=3), "stage is 1, the finest, to 2 in this CrossFormer; got 3"),
        (lambda s: s.of_pixel(20, 15, block=2), "block is 0 to 1, or -2 to -1 from the end, in stage 1; got 2"),
        (lambda s: s.both(20, 15, stage=0), "got 0"),
        (lambda s: s.of_pixel(20, 15).of_head(4), "head is 0 to 1 in the stage 1; got 4"),
    ],
    ids=["outside the square", "outside the image", "stage", "block", "both", "head"],
)
def test_what_there_is_not_is_answered_with_what_there_is(square, ask, words):
    with pytest.raises(ValueError, match=words):
        ask(square)


def test_a_model_without_groups_is_told_what_it_has():
    model = DETR(ResNet(depth=18))
    with pytest.raises(ValueError, match="this model is a DETR with a ResNet, which has no such attention"):
        groups_of(Subject(model, {}, RESIZE, CLASSES), IMAGE)
