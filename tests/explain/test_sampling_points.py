"""Where a query samples: that the points lie where the model looks, in pixels of the image, and that they are drawn."""

import dataclasses
import re
from functools import partial

import jax
import numpy as np
import pytest
from PIL import Image
from quick import drawn

from vitjax.backbones.resnet import ResNet
from vitjax.checkpoints.store import Store
from vitjax.commands.main import main
from vitjax.data.errors import DataError
from vitjax.data.source import Classes
from vitjax.data.transforms import Resize
from vitjax.detection.deformable_detr import DeformableDETR
from vitjax.detection.detr import DETR
from vitjax.detection.dino import DINO
from vitjax.detection.dino_loss import DINOLoss
from vitjax.detection.focal_loss import FocalSetLoss
from vitjax.detection.postprocess import TopDetections
from vitjax.explain.question import Question
from vitjax.explain.sampling_picture import draw_sampling
from vitjax.explain.sampling_points import SamplingPoints, sampling_of
from vitjax.explain.seen_image import SeenImage
from vitjax.explain.subject import Subject
from vitjax.runs.optimizer import AdamW
from vitjax.runs.run_folder import checkpoints_of, write_run
from vitjax.structs import Images
from vitjax.tasks.detection import Detection
from vitjax.training.state import TrainState

BACKBONE = ResNet(depth=18, width=8, stage_blocks=(1, 1))
SIZES = {"num_classes": 3, "num_queries": 5, "channels": 16, "heads": 4, "feed_forward": 16}
LAYERS = {"encoder_layers": 1, "decoder_layers": 2}
POINTS = {"levels": 3, "backbone_levels": 2, "encoder_points": 2, "decoder_points": 2, "refine": True}
MODEL = DeformableDETR(BACKBONE, **SIZES, **LAYERS, **POINTS)
CLASSES = Classes(("ant", "bee", "cat"), (1, 2, 3))
# 30 x 40 pixels become 36 x 48 and are padded to 64 x 64, so that every level is padded on both sides.
IMAGE = np.random.default_rng(0).integers(0, 255, (30, 40, 3), dtype=np.uint8)
RESIZE = Resize(size=36, max_side=64)
TOKENS = ((9, 12), (5, 6), (3, 3))
STAR = np.array([[1, 0], [0, 1], [-1, 0], [0, -1]])[:, None, None] * np.arange(1, 3)[:, None] * np.ones((4, 3, 2, 1))


def variables_of(model, *, star=False):
    """Drawn variables; with `star` every query samples one pixel of the level further per point, each head its way."""
    images = Images(np.zeros((1, 64, 64, 3), np.float32), np.ones((1, 64, 64), bool))
    variables = drawn(jax.eval_shape(partial(model.init, train=False), jax.random.key(0), images))

    def reset(path, leaf):
        names = [part.key for part in path]
        if not (star and "sampling_offsets" in names):
            return leaf
        return np.zeros_like(leaf) if names[-1] == "kernel" else STAR.reshape(leaf.shape).astype(np.float32)

    return jax.tree_util.tree_map_with_path(reset, variables)


def sampled(model=MODEL, *, star=False, multiple=64):
    return sampling_of(Subject(model, variables_of(model, star=star), RESIZE, CLASSES, multiple), IMAGE)


@pytest.fixture(scope="module")
def stars():
    return sampled(star=True)


@pytest.fixture(scope="module")
def everywhere():
    return sampled()


def by_hand(points, weights, *, reference=(10.0, 10.0), **fields):
    """Points on two levels of a grey image of 40 x 40 pixels; weights and points are [heads, levels, points]."""
    image = SeenImage(np.full((40, 40, 3), 120, np.uint8), (40, 40), np.array([0.0, 0.0, 40.0, 40.0]), (40, 40))
    found = {"label": "a", "score": 0.5, "box": np.array([5.0, 5.0, 15.0, 15.0]), **fields}
    return SamplingPoints(
        Question(query="query 3", part="decoder", layers=2, **found),
        (image.grid((5, 5), 8), image.grid((3, 3), 16)),
        heads=tuple(range(len(weights))),
        points=np.array(points, np.float32),
        weights=np.array(weights, np.float32),
        reference=np.array(reference),
        reference_box=None,
    )


@pytest.fixture
def two_heads():
    inside, outside = [[12, 9], [20, 20]], [[-5, 10], [300, 12]]
    return by_hand([[inside, inside], [inside, outside]], [[[0.1, 0.2], [0.3, 0.4]], [[0.1, 0.1], [0.2, 0.6]]])


def test_levels_are_known_by_stride_and_by_their_tokens_on_the_image(stars):
    assert [grid.stride for grid in stars.grids] == [4, 8, 16]
    assert [grid.map for grid in stars.grids] == [(16, 16), (8, 8), (4, 4)]
    assert tuple(grid.tokens for grid in stars.grids) == TOKENS


@pytest.mark.parametrize("level", range(3))
def test_the_star_of_a_pixel_lies_around_its_token_in_pixels_of_the_image(stars, level):
    found = stars.of_pixel(22, 17, level=level)
    cells = np.array([(40 / columns, 30 / rows) for rows, columns in TOKENS])
    np.testing.assert_allclose(found.points, found.reference + STAR * cells[:, None], atol=1e-3)


def test_the_star_of_a_first_decoder_layer_lies_around_its_reference_point(stars):
    found = stars.of_query(2, layer=0)
    params = variables_of(MODEL, star=True)["params"]
    logit = (
        params["query_embedding"][2, :16] @ params["reference_points"]["kernel"] + params["reference_points"]["bias"]
    )
    np.testing.assert_allclose(found.reference, np.array([40, 30]) / (1 + np.exp(-logit)), atol=1e-2)
    cells = np.array([(40 / columns, 30 / rows) for rows, columns in TOKENS])
    np.testing.assert_allclose(found.points, found.reference + STAR * cells[:, None], atol=1e-3)
    assert found.reference_box is None


def test_the_star_of_a_refined_layer_is_scaled_by_its_reference_box(stars):
    found = stars.of_query(2)
    low, high = found.reference_box[:2], found.reference_box[2:]
    np.testing.assert_allclose(found.reference, (low + high) / 2, atol=1e-3)
    np.testing.assert_allclose(found.points, found.reference + STAR / 2 * (high - low) / 2, atol=1e-3)


def test_padding_does_not_move_a_point(everywhere):
    alone = sampled(multiple=12)
    assert tuple(grid.map for grid in alone.grids) == tuple(grid.tokens for grid in alone.grids) == TOKENS
    for query in range(5):
        np.testing.assert_allclose(everywhere.of_query(query).points, alone.of_query(query).points, atol=1e-2)
    np.testing.assert_allclose(everywhere.of_pixel(39, 29).points, alone.of_pixel(39, 29).points, atol=1e-2)


def test_a_model_that_recomputes_its_layers_samples_the_same(everywhere):
    again = sampled(MODEL.clone(remat=True))
    np.testing.assert_allclose(everywhere.of_query(0).points, again.of_query(0).points, atol=1e-3)


def test_weights_of_a_head_sum_to_one_over_levels_and_points(everywhere):
    for layer in (*everywhere.encoder, *everywhere.decoder):
        np.testing.assert_allclose(layer.weights.sum((-2, -1)), 1, atol=1e-5)
    assert everywhere.of_query(1).shares.sum() == pytest.approx(1, abs=1e-5)
    assert everywhere.of_query(1).of_head(2).shares.sum() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("level", range(3))
@pytest.mark.parametrize("pixel", [(0, 0), (39, 29), (39, 0), (7, 21)], ids=str)
def test_a_pixel_lies_in_the_cell_of_its_token_and_the_reference_is_its_centre(stars, pixel, level):
    found = stars.of_pixel(*pixel, level=level)
    low, high = found.question.box[:2], found.question.box[2:]
    assert np.all(low <= np.add(pixel, 0.5)) and np.all(np.add(pixel, 0.5) <= high)
    np.testing.assert_allclose(found.reference, (low + high) / 2, atol=1e-3)


def test_without_a_query_the_one_with_the_best_score_is_taken(everywhere):
    best = int(everywhere.queries.scores.argmax())
    found, same = everywhere.of_query(), everywhere.of_query(best)
    assert found.question.query == f"query {best}" and found.question.score == everywhere.queries.scores.max()
    assert found.question.label in CLASSES.names
    np.testing.assert_array_equal(found.points, same.points)


def test_layers_count_from_either_end(everywhere):
    first, last = everywhere.of_query(0, layer=0), everywhere.of_query(0, layer=1)
    np.testing.assert_array_equal(everywhere.of_query(0, layer=-2).points, first.points)
    np.testing.assert_array_equal(everywhere.of_query(0).points, last.points)


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda s: s.of_query(5), "query is 0 to 4 in this decoder; got 5"),
        (lambda s: s.of_query(-1), "got -1"),
        (lambda s: s.of_query(0, layer=2), "layer is 0 to 1, or -2 to -1 from the end, in the decoder; got 2"),
        (lambda s: s.of_pixel(0, 0, layer=-2), "in the encoder; got -2"),
        (lambda s: s.of_pixel(40, 0), "x from 0 to 39 and y from 0 to 29; got 40 0"),
        (lambda s: s.of_pixel(0, -1), "got 0 -1"),
        (lambda s: s.of_pixel(0, 0, level=3), "level is 0, the finest, to 2; got 3"),
        (lambda s: s.of_query(0).of_head(4), "head is 0 to 3 in the decoder; got 4"),
    ],
    ids=["query", "negative query", "layer", "encoder layer", "x", "y", "level", "head"],
)
def test_what_there_is_not_is_answered_with_what_there_is(stars, ask, words):
    with pytest.raises(ValueError, match=words):
        ask(stars)


def test_a_model_that_samples_no_points_is_told_so():
    with pytest.raises(ValueError, match="this model is a DETR, which attends to the whole image"):
        sampling_of(Subject(DETR(BACKBONE), {}, RESIZE, CLASSES), IMAGE)


def test_an_image_that_is_missing_is_named():
    with pytest.raises(DataError, match=r"nowhere\.png"):
        sampling_of(Subject(MODEL, {}, RESIZE, CLASSES), "nowhere.png")


def test_points_outside_the_image_and_the_weight_of_each_level_are_counted(two_heads):
    assert two_heads.outside.tolist() == [[[False, False], [False, False]], [[False, False], [True, True]]]
    np.testing.assert_allclose(two_heads.shares, [0.25, 0.75], rtol=1e-6)
    alone = two_heads.of_head(1)
    assert alone.heads == (1,) and alone.points.shape == (1, 2, 2, 2)
    np.testing.assert_allclose(alone.shares, [0.2, 0.8], rtol=1e-6)


def test_a_point_on_the_edge_of_the_image_is_not_outside(two_heads):
    height, width = two_heads.image.original
    corners = np.array([[0, 0], [width, height], [width + 0.5, 0], [0, -0.5]], np.float32)
    edged = dataclasses.replace(two_heads, points=corners.reshape(1, 2, 2, 2))
    assert edged.outside.tolist() == [[[False, False], [True, True]]]


@pytest.mark.parametrize(
    ("zoom", "place"), [(1, [30 + 1.6, 20 + 1.6]), (2, [2 * (30 - 20), 2 * (20 - 10)])], ids=["whole", "zoomed"]
)
def test_a_point_is_drawn_at_its_place_in_the_colour_of_its_weight(tmp_path, zoom, place):
    reference, box = np.array([30.8, 20.8]), np.array([1.0, 1.0, 8.0, 8.0])
    one = by_hand([[[[30, 20]], [[4, 4]]]], [[[1.0], [0.0]]], box=box, reference=reference)
    picture = np.array(Image.open(draw_sampling(one, tmp_path / "one.png", zoom=zoom, dpi=100)).convert("RGB"))
    assert picture.shape[1] == 1015  # two panels of 4.2 inches, three gaps of 0.25, and 1 for the colour bar
    assert picture.shape[0] == pytest.approx(642, abs=1)
    panel = picture[:, 25 : 25 + 420]
    rows, columns = np.nonzero(np.abs(panel.astype(int) - (253, 231, 37)).max(-1) < 12)
    top = 0.25 + 0.23 * (0.3 + 1.45 + 1.0) + 0.34  # inches: what stands above the panels
    expected = np.array(place) / 43.2 * 420 + [0, 100 * top]
    np.testing.assert_allclose([columns.mean(), rows.mean()], expected, atol=1.5)


def test_a_picture_has_a_panel_per_level_and_differs_between_queries(everywhere, tmp_path):
    pictures = {}
    for query in (0, 1):
        path = draw_sampling(everywhere.of_query(query), tmp_path / f"{query}.png", dpi=40)
        pictures[query] = np.array(Image.open(path))
    assert pictures[0].shape[1] > 2 * pictures[0].shape[0]
    assert pictures[0].shape != pictures[1].shape or np.any(pictures[0] != pictures[1])


@pytest.mark.parametrize("label", ["$5 and $", "a name " * 40, ""], ids=["dollars", "long", "none"])
def test_any_class_name_can_be_written(two_heads, tmp_path, label):
    named = dataclasses.replace(two_heads, question=dataclasses.replace(two_heads.question, label=label))
    path = draw_sampling(named, tmp_path / "name.png", dpi=30)
    assert path.stat().st_size > 0


TWO_STAGE = {
    "two_stage": MODEL.clone(two_stage=True),
    "dino": DINO(BACKBONE, **SIZES, **LAYERS, levels=3, backbone_levels=2, encoder_points=2, decoder_points=2),
}


@pytest.mark.parametrize("name", TWO_STAGE)
def test_a_query_of_a_proposal_comes_from_the_cell_of_its_token(name):
    model = TWO_STAGE[name]
    found = sampled(model)
    subject = Subject(model, variables_of(model), RESIZE, CLASSES, 64)
    sown = subject.run(IMAGE, lambda _, sown: sown["proposals"]["chosen"][0][0]).kept
    starts = np.cumsum([0, *(rows * columns for rows, columns in (grid.map for grid in found.grids))])
    for query, token in enumerate(sown):
        origin = found.origins[query]
        grid = found.grids[origin.level]
        row, column = divmod(token - starts[origin.level], grid.map[1])
        assert starts[origin.level] <= token < starts[origin.level + 1]
        np.testing.assert_allclose(origin.cell, grid.cells[row, column])
        assert found.of_query(query).origin == origin
    assert found.of_pixel(3, 3).origin is None and sampled().origins is None


def test_what_proposed_a_query_is_told_and_drawn(tmp_path, capsys, picture):
    experiment = Detection(model=TWO_STAGE["dino"], loss=DINOLoss(), postprocess=TopDetections(), resize=RESIZE)
    folder, out = write(tmp_path / "run", experiment), tmp_path / "sampling.png"
    assert main(["explain", str(folder), picture, "--out", str(out), "--threshold", "0"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("query")]
    assert len(lines) == 5 and all(re.search(r"proposed at pixel \(\d+, \d+\) on level [012]$", line) for line in lines)
    assert out.stat().st_size > 0


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run folder of the model, untrained."""
    experiment = Detection(model=MODEL, loss=FocalSetLoss(), postprocess=TopDetections(), resize=RESIZE)
    return write(tmp_path_factory.mktemp("runs") / "deformable", experiment)


def write(folder, experiment):
    variables = variables_of(experiment.model)
    write_run(folder, experiment, CLASSES)
    trainable, frozen = AdamW().partition(variables["params"])
    constants = {name: tree for name, tree in variables.items() if name != "params"}
    state = TrainState(np.zeros((), np.int32), trainable, frozen, constants, {}, np.zeros(2, np.uint32))
    with Store(checkpoints_of(folder)) as store:
        store.save(0, state)
    return folder


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "image.png"
    Image.fromarray(IMAGE).save(path)
    return str(path)


def test_explain_draws_the_best_query_and_lists_the_others(run, picture, tmp_path, capsys):
    out = tmp_path / "new" / "sampling.png"
    assert main(["explain", str(run), picture, "--out", str(out), "--threshold", "0"]) == 0
    said = capsys.readouterr().out
    assert said.count("score") == 5 and f"wrote {out}" in said
    assert Image.open(out).width > 1000


def test_explain_draws_a_head_of_a_pixel_of_a_layer(run, picture, tmp_path, capsys):
    out = tmp_path / "pixel.png"
    words = ["--pixel", "39", "29", "--level", "1", "--layer", "-1", "--head", "3", "--zoom", "2", "--out", str(out)]
    assert main(["explain", str(run), picture, *words]) == 0
    assert "pixel (39, 29) on level 1" in capsys.readouterr().out
    assert out.exists()


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (["--query", "7"], "query is 0 to 4"),
        (["--pixel", "40", "3"], "x from 0 to 39"),
        (["--query", "1", "--pixel", "1", "3"], "not both"),
        (["--query", "1", "--level", "1"], "--level goes with --pixel"),
        (["--head", "9"], "head is 0 to 3"),
        (["--zoom", "0.5"], "zoom is 1 to 100; got 0.5"),
        (["--out", "sampling.tiff2"], "tiff2"),
    ],
    ids=["query", "pixel", "both", "level", "head", "zoom", "format"],
)
def test_explain_answers_what_cannot_be_drawn_in_one_line(run, picture, capsys, words, answer):
    assert main(["explain", str(run), picture, *words]) == 1
    error = capsys.readouterr().err
    assert answer in error and "Traceback" not in error


@pytest.fixture(scope="module")
def detr(tmp_path_factory):
    return write(
        tmp_path_factory.mktemp("runs") / "detr", Detection(model=DETR(BACKBONE, **SIZES, **LAYERS), resize=RESIZE)
    )


def test_explain_draws_what_a_query_of_a_detr_attends_to(detr, picture, tmp_path, capsys):
    out = tmp_path / "attention.png"
    assert main(["explain", str(detr), picture, "--out", str(out), "--threshold", "0"]) == 0
    said = capsys.readouterr().out
    assert said.count("score") == 5 and "in decoder layer 1 (the last of 2)" in said
    assert Image.open(out).width > 1000


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (["--zoom", "2"], "--zoom is not for the attention of a DETR; these take --query"),
        (["--stage", "1"], "this model, a DETR with a ResNet, has none"),
    ],
    ids=["zoom", "groups"],
)
def test_explain_tells_what_it_can_do_for_a_detr(detr, picture, capsys, words, answer):
    assert main(["explain", str(detr), picture, *words]) == 1
    assert answer in capsys.readouterr().err
