"""What a query or a pixel attends to: that weights lie on the cells that the model attends to, and not on padding."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from quick import drawn

from vitjax.backbones.resnet import ResNet
from vitjax.classification.classifier import Classifier
from vitjax.data.errors import DataError
from vitjax.data.source import Classes
from vitjax.data.transforms import Resize
from vitjax.detection.detr import DETR
from vitjax.explain.attention_maps import attention_of
from vitjax.explain.subject import Subject
from vitjax.ops.positions import sine
from vitjax.structs import Images

BACKBONE = ResNet(depth=18, width=8, stage_blocks=(1, 1))
SIZES = {"channels": 16, "heads": 2, "feed_forward": 16, "encoder_layers": 1, "decoder_layers": 2}
MODEL = DETR(BACKBONE, num_classes=3, num_queries=4, **SIZES)
CLASSES = Classes(("ant", "bee", "cat"), (1, 2, 3))
# 30 x 40 pixels become 36 x 48 and are padded to 64 x 64: of 8 x 8 tokens 5 x 6 lie on the image.
IMAGE = np.random.default_rng(0).integers(0, 255, (30, 40, 3), dtype=np.uint8)
RESIZE = Resize(size=36, max_side=64)
ASKED = ((0, 0), (4, 5), (2, 3), (1, 5))  # the cells that the queries of the rigged model ask for


def variables_of(model):
    images = Images(np.zeros((1, 64, 64, 3), np.float32), np.ones((1, 64, 64), bool))
    return drawn(jax.eval_shape(partial(model.init, train=False), jax.random.key(0), images))


def rigged(variables):
    """Queries and keys are nothing but positions: head 0 attends to rows, head 1 to columns, each to the nearest."""
    valid = np.zeros((1, 8, 8), bool)
    valid[:, :5, :6] = True
    positions = np.asarray(sine(jnp.asarray(valid), 16))[0]

    def rig(path, leaf):
        names = [part.key for part in path]
        if names[0] != "params" or names[1] == "backbone":
            return leaf
        if names[1] == "query_embedding":
            return np.stack([positions[cell] for cell in ASKED])
        if names[1:] == ["class_head", "bias"]:
            return np.log(np.array([1, 5, 1, 3], np.float32))
        identity = len(names) > 2 and names[-1] == "kernel" and names[-2] in ("query", "key")
        return 10 * np.eye(16, dtype=np.float32) if identity else np.zeros_like(leaf)

    return jax.tree_util.tree_map_with_path(rig, variables)


def attention(variables, multiple=64):
    return attention_of(Subject(MODEL, variables, RESIZE, CLASSES, multiple), IMAGE)


@pytest.fixture(scope="module")
def known():
    return attention(rigged(variables_of(MODEL)))


@pytest.fixture(scope="module")
def anything():
    return attention(variables_of(MODEL))


def peaks(found):
    """The row that head 0 attends to most, and the column that head 1 does."""
    assert np.ptp(found.weights[0], axis=1).max() < 1e-4 and np.ptp(found.weights[1], axis=0).max() < 1e-4
    return int(found.weights[0, :, 0].argmax()), int(found.weights[1, 0].argmax())


@pytest.mark.parametrize(
    ("pixel", "cell"), [((0, 0), (0, 0)), ((39, 29), (4, 5)), ((22, 8), (1, 3)), ((6, 26), (3, 0))], ids=str
)
def test_a_pixel_attends_from_its_own_token_whose_cell_holds_it(known, pixel, cell):
    found = known.of_pixel(*pixel)
    assert peaks(found) == cell
    low, high = found.question.box[:2], found.question.box[2:]
    assert np.all(low <= np.add(pixel, 0.5)) and np.all(np.add(pixel, 0.5) <= high)
    np.testing.assert_allclose(high - low, 8 * 40 / 48, rtol=1e-5)


@pytest.mark.parametrize("query", range(4))
def test_a_query_attends_to_the_cell_that_it_asks_for(known, query):
    assert peaks(known.of_query(query)) == ASKED[query]


def test_a_query_has_the_class_score_and_box_that_it_finds(known):
    found = known.of_query().question
    assert (found.label, round(found.score, 4)) == ("bee", 0.5)  # the best class that is not 'no object'
    np.testing.assert_allclose(found.box, [10, 7.5, 30, 22.5], atol=1e-4)


def test_weights_sum_to_one_on_the_image_and_padding_has_none(anything):
    assert anything.grid.map == (8, 8) and anything.grid.stride == 8
    for found in (anything.of_query(1), anything.of_query(3, layer=0), anything.of_pixel(39, 29)):
        assert found.weights.shape == (2, 5, 6)
        np.testing.assert_allclose(found.weights.sum((1, 2)), 1, atol=1e-5)
        assert found.on_padding < 1e-5


def test_padding_does_not_change_what_is_attended_to(anything):
    alone = attention(variables_of(MODEL), multiple=4)
    assert alone.grid.map == (5, 6)
    np.testing.assert_allclose(anything.of_query(2).weights, alone.of_query(2).weights, atol=1e-4)
    np.testing.assert_allclose(anything.of_pixel(30, 20).weights, alone.of_pixel(30, 20).weights, atol=1e-4)


def test_the_best_query_is_taken_where_none_is_named_and_layers_count_from_either_end(anything):
    best, scores = anything.of_query().question, anything.queries.scores
    assert best.query == f"query {scores.argmax()}" and best.score == pytest.approx(scores.max())
    assert best.place == "decoder layer 1 (the last of 2)"
    np.testing.assert_array_equal(anything.of_query(1, layer=-2).weights, anything.of_query(1, layer=0).weights)


def test_a_head_alone_keeps_its_number(anything):
    found = anything.of_query(0)
    np.testing.assert_array_equal(found.of_head(1).mean, found.weights[1])
    assert found.of_head(1).heads == (1,)


def test_the_part_of_the_weight_in_a_box_counts_cells_by_what_lies_in_it(known):
    found = known.of_query(2)
    pixels = np.repeat(np.repeat(found.mean, 80, axis=0), 80, axis=1) / 80**2  # 12 to a pixel of the original
    left, top, right, bottom = np.rint(found.question.box * 12).astype(int)
    assert found.in_box == pytest.approx(pixels[top:bottom, left:right].sum(), abs=1e-3)


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda s: s.of_query(4), "query is 0 to 3 in this decoder; got 4"),
        (lambda s: s.of_query(0, layer=2), "layer is 0 to 1, or -2 to -1 from the end, in the decoder; got 2"),
        (lambda s: s.of_pixel(0, 0, layer=1), "layer is 0, or -1 from the end, in the encoder; got 1"),
        (lambda s: s.of_pixel(40, 0), "x from 0 to 39 and y from 0 to 29; got 40 0"),
        (lambda s: s.of_query(0).of_head(2), "head is 0 to 1 in the decoder; got 2"),
    ],
    ids=["query", "layer", "encoder layer", "pixel", "head"],
)
def test_what_there_is_not_is_answered_with_what_there_is(known, ask, words):
    with pytest.raises(ValueError, match=words):
        ask(known)


def test_a_model_without_such_attention_is_told_so():
    with pytest.raises(ValueError, match="this model is a Classifier with a ResNet"):
        attention_of(Subject(Classifier(BACKBONE), {}, RESIZE, CLASSES), IMAGE)


def test_an_image_that_is_missing_is_named():
    with pytest.raises(DataError, match=r"nowhere\.png"):
        attention_of(Subject(MODEL, {}, RESIZE, CLASSES), "nowhere.png")
