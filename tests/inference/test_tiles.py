"""Large images in tiles: an exact detector finds on the whole what it finds on each part, once."""

import itertools

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitjax.commands.predict import _with_own_tiles
from vitjax.data.memory import Pictures
from vitjax.data.source import Classes, Sample
from vitjax.data.transforms import Resize
from vitjax.detection.postprocess import BestClass
from vitjax.errors import FieldError
from vitjax.inference.predictor import Predictor
from vitjax.inference.task import Asked
from vitjax.inference.tiles import Tile, Tiles, in_tiles, joined, tile_side, tiles_of
from vitjax.prediction import Answer, Prediction, labelling, names_of
from vitjax.structs import ANSWER, Predictions, PredictionSet
from vitjax.tasks.detection import Detector

CLASSES = Classes(("red", "blue"), (0, 1))
SIDE = 100


class Drawn:
    """Masks as they are."""

    def __init__(self, masks):
        self.masks = masks

    def __len__(self):
        return len(self.masks)

    def __getitem__(self, row):
        return self.masks[row]

    def take(self, rows):
        return Drawn([self.masks[row] for row in rows])


def seen(image):
    """What an exact detector sees: around every colour in the image a box, with a score by its colour."""
    code = image.astype(np.int32) @ (65536, 256, 1)
    colours = [one for one in np.unique(code).tolist() if one]
    there = [code == colour for colour in colours]
    places = [np.argwhere(mask) for mask in there]
    boxes = np.array([[*p.min(0)[::-1], *(p.max(0)[::-1] + 1)] for p in places], np.float32).reshape(-1, 4)
    labels = np.array([int(colour % 256 > 0) for colour in colours], np.int32)
    scores = np.array([0.5 + colour % 997 / 2000 for colour in colours], np.float32)
    return Prediction(boxes, scores, labels, names_of(CLASSES, labels), Drawn(there))


def look(source):
    """Answers from the last to the first, as sweeps may give them in any order."""
    for place in reversed(range(len(source))):
        yield Answer(place, np.zeros(0, np.int32), seen(source[place].image))


def painted(height, width, boxes):
    """An image with a rectangle of a colour of its own at each box; red and blue ones take turns."""
    image = np.zeros((height, width, 3), np.uint8)
    for number, (x1, y1, x2, y2) in enumerate(boxes):
        image[y1:y2, x1:x2] = (0, 60 + number, 200) if number % 2 else (200, 60 + number, 0)
    return image


def whole(image, *, overlap=0.25):
    (answer,) = in_tiles(look, Pictures([image], CLASSES), side=SIDE, overlap=overlap)
    return answer.prediction


def same(found, wanted):
    assert sorted(found.boxes.tolist()) == sorted(wanted.boxes.tolist())
    order, others = np.lexsort(found.boxes.T), np.lexsort(wanted.boxes.T)
    np.testing.assert_array_equal(found.labels[order], wanted.labels[others])
    np.testing.assert_array_equal(found.scores[order], wanted.scores[others])
    for one, other in zip(order, others, strict=True):
        np.testing.assert_array_equal(found.masks[one], wanted.masks[other])


@given(st.integers(1, 400), st.integers(20, 120), st.floats(0, 0.75))
def test_tiles_cover_a_side_with_the_overlap_and_none_is_superfluous(length, side, overlap):
    tiles = tiles_of(length, 10, side=side, overlap=overlap)
    assert tiles[0].top == 0 and tiles[-1].bottom == length
    assert all(one.bottom - one.top == min(side, length) for one in tiles)
    shared = [one.bottom - two.top for one, two in itertools.pairwise(tiles)]
    assert all(each >= round(overlap * side) - 1 for each in shared)  # starts are rounded
    fewer = (len(tiles) - 1) * side - (len(tiles) - 2) * round(overlap * side)
    assert len(tiles) == 1 or fewer < length


@settings(max_examples=15, deadline=None)
@given(st.integers(101, 240), st.integers(90, 240), st.integers(0, 2**32 - 1))
def test_small_objects_anywhere_are_found_once_each_with_their_own_boxes_and_masks(height, width, seed):
    rng = np.random.default_rng(seed)
    boxes = []
    for y, x in itertools.product(range(0, height - 24, 33), range(0, width - 24, 33)):
        top, left = y + rng.integers(0, 8), x + rng.integers(0, 8)
        tall, wide = rng.integers(6, 25, 2)
        if rng.random() < 0.7 and len(boxes) < 100:
            boxes.append((left, top, min(left + wide, width), min(top + tall, height)))
    image = painted(height, width, boxes)
    same(whole(image), seen(image))


@pytest.mark.parametrize("box", [(10, 20, 290, 60), (40, 5, 70, 255), (15, 15, 285, 245), (80, 30, 150, 45)])
def test_an_object_larger_than_a_tile_is_put_together_from_its_pieces(box):
    image = painted(260, 300, [box])
    same(whole(image), seen(image))


def test_boxes_of_a_panorama_are_those_of_its_images():
    images = [painted(80, 90, [(5 + 3 * i, 9, 25 + 3 * i, 30), (50, 40 + i, 72, 62)]) for i in range(6)]
    for number, image in enumerate(images):
        image[..., 1] += np.where(image.any(-1), 10 * number, 0).astype(np.uint8)
    panorama = np.concatenate([np.concatenate(images[:3], 1), np.concatenate(images[3:], 1)])
    found = whole(panorama)
    wanted = [seen(image).boxes + np.tile([90 * (i % 3), 80 * (i // 3)], 2) for i, image in enumerate(images)]
    assert sorted(found.boxes.tolist()) == sorted(np.concatenate(wanted).tolist())


def pair(*parts):
    """What is found on two tiles, the second from 75 on: boxes of the whole, scores and labels of each tile."""
    tiles = [Tile(0, 0, 100, 50), Tile(75, 0, 175, 50)]
    found = []
    for tile, part in zip(tiles, parts, strict=True):
        boxes = np.array([box for box, _, _ in part], np.float32).reshape(-1, 4) - np.float32([tile.left, 0] * 2)
        labels = np.array([label for _, _, label in part], np.int32)
        scores = np.array([score for _, score, _ in part], np.float32)
        found.append(Prediction(boxes, scores, labels, names_of(CLASSES, labels)))
    return joined(found, tiles, CLASSES)


def test_of_what_both_tiles_see_the_better_stays_and_other_classes_and_neighbours_stay_too():
    first = [((80, 10, 95, 30), 0.6, 0), ((81, 11, 95, 30), 0.5, 0), ((80, 10, 95, 30), 0.3, 1)]
    found = pair(first, [((79, 10, 95, 31), 0.8, 0), ((82, 10, 96, 30), 0.7, 0)])
    # Two boxes of a tile on one another are two objects to the model, as without tiles.
    assert found.boxes.tolist() == [[79, 10, 95, 31], [82, 10, 96, 30], [80, 10, 95, 30]]
    np.testing.assert_allclose(found.scores, [0.8, 0.7, 0.3])
    assert found.names == ("red", "red", "blue") and found.boxes.dtype == np.float32


def test_a_piece_is_dropped_for_the_tile_that_sees_more_also_where_it_scores_better():
    found = pair([((70, 10, 90, 30), 0.4, 0)], [((75, 10, 90, 30), 0.9, 0)])
    assert found.boxes.tolist() == [[70, 10, 90, 30]]
    found = pair([((60, 10, 78, 30), 0.4, 0)], [((75, 5, 80, 40), 0.9, 0)])  # of a rim a model sees little
    assert found.boxes.tolist() == [[60, 10, 78, 30]]
    found = pair([((60, 10, 100, 30), 0.9, 0)], [((80, 11, 120, 30), 0.5, 0)])
    assert found.boxes.tolist() == [[80, 11, 120, 30]]  # it lies in the first tile's rim only as a piece


def test_two_long_objects_that_meet_in_the_overlap_stay_two():
    found = pair([((20, 10, 95, 20), 0.9, 0)], [((80, 12, 150, 40), 0.8, 0)])
    assert len(found) == 2


def test_nothing_on_any_tile_is_nothing():
    found = pair([], [])
    assert len(found) == 0 and found.boxes.shape == (0, 4)


def test_an_image_that_is_no_larger_than_a_tile_is_predicted_as_it_is():
    image = painted(90, 100, [(0, 0, 30, 30)])
    (answer,) = in_tiles(look, Pictures([image], CLASSES), side=SIDE)
    assert isinstance(answer.prediction.masks, Drawn)


def test_every_record_is_answered_once_and_a_tile_that_cannot_be_read_spoils_its_image_only():
    images = [
        painted(150, 120, [(10, 10, 20, 20)]),
        painted(50, 50, [(1, 1, 9, 9)]),
        painted(120, 300, [(9, 9, 40, 40)]),
    ]

    def broken(source):
        for answer in look(source):
            yield answer._replace(prediction=None) if answer.record == 1 else answer

    answers = list(in_tiles(broken, Pictures(images, CLASSES), side=SIDE))
    assert sorted(one.record for one in answers) == [0, 1, 2]
    assert [one.prediction is None for one in sorted(answers, key=lambda one: one.record)] == [True, False, False]


def test_an_image_is_decoded_once_for_all_its_tiles():
    read = []

    class Counting(Pictures):
        def __getitem__(self, record):
            read.append(record)
            return super().__getitem__(record)

    tiles = Tiles(Counting([painted(250, 250, []), painted(150, 90, [])], CLASSES), side=SIDE, overlap=0.25)
    assert [tiles[place].image.shape for place in range(len(tiles))][-1] == (100, 90, 3)
    assert read == [0, 1] and tiles.name(4) == "image 0 from 75, 75 to 175, 175"
    assert tiles.sizes.tolist() == [[100, 100]] * 9 + [[100, 90]] * 2


@pytest.mark.parametrize("size", [(100, 260), (230, 100), (175, 260)])
def test_a_label_map_is_that_of_the_tiles_away_from_their_borders(size):
    truth = np.random.default_rng(0).integers(0, 4, size).astype(np.uint8)
    tiles = tiles_of(*size, side=SIDE, overlap=0.25)
    parts = []
    for tile in tiles:
        part = truth[tile.top : tile.bottom, tile.left : tile.right].copy()
        rim = [slice(4 * (tile.top > 0), part.shape[0] - 4 * (tile.bottom < size[0]))]
        rim += [slice(4 * (tile.left > 0), part.shape[1] - 4 * (tile.right < size[1]))]
        spoiled = np.full_like(part, 9)
        spoiled[tuple(rim)] = part[tuple(rim)]  # a model sees least at the borders
        parts.append(labelling(spoiled, CLASSES))
    np.testing.assert_array_equal(joined(parts, tiles, CLASSES).label_map, truth)


def test_tiles_are_as_large_as_the_model_sees_or_as_is_asked():
    assert tile_side("own", Resize(224, 448)) == 224 and tile_side(640, Resize(None, None)) == 640
    with pytest.raises(FieldError, match="give the side of the tiles in pixels"):
        tile_side("own", Resize(None, None))


@pytest.mark.parametrize(
    "asked", [{"tiles": True}, {"tiles": 0}, {"tiles": "large"}, {"tiles": 99.5}, {"tile_overlap": 0.9}]
)
def test_what_is_no_tile_is_refused(asked):
    with pytest.raises(FieldError, match=r"^tile"):
        Asked(**asked)


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["run", "a.png"], ["run", "a.png"]),
        (["run", "--tiles", "a.png"], ["run", "--tiles", "own", "a.png"]),
        (["run", "a.png", "--tiles"], ["run", "a.png", "--tiles", "own"]),
        (["run", "a.png", "--tiles", "--nms", "0.5"], ["run", "a.png", "--tiles", "own", "--nms", "0.5"]),
        (["run", "a.png", "--tiles", "480"], ["run", "a.png", "--tiles", "480"]),
    ],
)
def test_the_bare_word_stands_for_the_size_of_the_model(words, wanted):
    assert _with_own_tiles(words) == wanted


class Brightest(nn.Module):
    """Finds what is white: a box around it, by projections, as a model on the device would."""

    @nn.compact
    def __call__(self, images, *, train):
        white = images.pixels.mean(-1) > 1
        spans = []
        for axis in (2, 1):  # along x, along y
            there = white.any(3 - axis)
            length = there.shape[1]
            first, last = there.argmax(1), length - there[:, ::-1].argmax(1)
            spans.append(((first + last) / 2 / length, (last - first) / length))
        (x, w), (y, h) = spans
        boxes = jnp.stack([x, y, w, h], -1)[None, :, None]
        found = jnp.where(white.any((1, 2)), 4.0, -4.0)[None, :, None]
        logits = jnp.stack([found, jnp.full_like(found, -9.0), jnp.zeros_like(found)], -1)
        return Predictions({ANSWER: PredictionSet(logits, boxes)})


def test_a_predictor_looks_at_tiles_as_asked_in_python():
    predictor = Predictor(Detector(Brightest(), Resize(64, 64), BestClass()), {}, CLASSES)
    image = np.zeros((64, 160, 3), np.uint8)
    image[10:20, 8:20] = image[40:52, 120:150] = 255
    assert predictor(image).boxes.round().tolist() != [[8, 10, 20, 20], [120, 40, 150, 52]]
    for tiles in (True, 64, "own"):
        found = predictor(image, tiles=tiles, threshold=0.5)
        assert sorted(found.boxes.round().tolist()) == [[8, 10, 20, 20], [120, 40, 150, 52]]
    assert len(predictor([image, image[:64, :64]], tiles=True, tile_overlap=0.5, batch_size=2)) == 2


def test_a_tile_has_no_objects_though_its_image_has():
    class Labelled(list):
        classes, sizes = CLASSES, np.array([[8, 20]])

    boxes, labels = np.array([[0, 0, 4, 4], [9, 0, 20, 8]], np.float32), np.array([0, 1], np.int32)
    tiles = Tiles(Labelled([Sample(np.zeros((8, 20, 3), np.uint8), boxes, labels)]), side=8, overlap=0.25)
    assert len(tiles) > 1 and all(len(tiles[place].labels) == 0 for place in range(len(tiles)))
