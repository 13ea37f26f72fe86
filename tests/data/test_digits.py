import pickle
from dataclasses import replace

import numpy as np
import pytest

from vitjax.data.digit_scenes import _handwriting
from vitjax.data.digits import Digits
from vitjax.data.errors import DataError

PLAIN = Digits(clutter=0.0, noise=0.0, min_contrast=0.8, max_contrast=0.8)
CROWDED = Digits(height=48, width=80, min_digits=2, max_digits=8, max_overlap=0.3, clutter=0.2, noise=0.05)


def iou(boxes):
    sides = np.minimum(boxes[:, None, 2:], boxes[:, 2:]) - np.maximum(boxes[:, None, :2], boxes[:, :2])
    shared = sides.clip(min=0).prod(-1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(-1)
    return shared / (areas[:, None] + areas - shared)


def test_a_scene_is_a_function_of_seed_split_and_record():
    again = pickle.loads(pickle.dumps(Digits().open("train")))
    first, second = Digits().open("train")[7], again[7]
    assert np.array_equal(first.image, second.image) and np.array_equal(first.boxes, second.boxes)
    others = [Digits().open("train")[8], Digits().open("val")[7], Digits(seed=1).open("train")[7]]
    assert all(not np.array_equal(first.image, other.image) for other in others)


def test_the_number_of_scenes_does_not_change_a_scene():
    few, many = Digits(train_images=5).open("train"), Digits(train_images=50).open("train")
    assert (len(few), len(many)) == (5, 50)
    assert np.array_equal(few[4].image, many[4].image)


def test_train_and_val_share_no_handwritten_digit():
    train, val = ({(glyph.shape, glyph.tobytes()) for glyph in _handwriting(split)[0]} for split in ("train", "val"))
    assert len(train) + len(val) == 1797
    assert not train & val


@pytest.mark.parametrize("config", [Digits(), CROWDED], ids=["default", "crowded"])
def test_scenes_keep_to_their_config(config):
    scenes = config.open("train")
    for record in range(40):
        sample = scenes[record]
        assert sample.image.shape == (config.height, config.width, 3) and sample.image.dtype == np.uint8
        assert sample.boxes.dtype == np.float32 and sample.labels.dtype == np.int32
        assert 1 <= len(sample.labels) == len(sample.boxes) <= scenes.max_objects == config.max_digits
        assert sample.labels.min() >= 0 and sample.labels.max() < len(scenes.classes) == 10
        assert np.all(sample.boxes >= 0) and np.all(sample.boxes[:, 2:] <= (config.width, config.height))
        assert np.all(sample.boxes[:, 2:] - sample.boxes[:, :2] <= config.max_size * 1.5)
    assert np.array_equal(scenes.sizes[record], sample.image.shape[:2])


def test_boxes_are_tight_around_the_ink():
    scenes = replace(PLAIN, max_digits=1).open("train")
    for record in range(20):
        sample = scenes[record]
        paper = sample.image[0, 0] if sample.boxes[0, :2].max() > 1 else sample.image[-1, -1]
        drawn = np.abs(sample.image.astype(float) - paper).max(-1) > 0.35 * 0.8 * 255
        rows, columns = np.flatnonzero(drawn.any(1)), np.flatnonzero(drawn.any(0))
        ink = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
        assert np.abs(sample.boxes[0] - ink).max() <= 1
        assert PLAIN.min_size - 1 <= sample.boxes[0, 3] - sample.boxes[0, 1] <= PLAIN.max_size


@pytest.mark.parametrize("most", [0.0, 0.2], ids="overlap={}".format)
def test_boxes_overlap_no_more_than_allowed(most):
    scenes = replace(CROWDED, max_overlap=most, min_size=12, max_size=16).open("train")
    highest = max(np.triu(iou(scenes[record].boxes), 1).max() for record in range(30))
    assert highest <= most + 0.05  # the ink of a digit may be a pixel less than the place it was given
    assert (highest > 0) == (most > 0)


def test_ground_truth_says_what_the_scenes_say():
    scenes = Digits(val_images=12).open("val")
    truth = scenes.ground_truth()
    assert [image["id"] for image in truth["images"]] == list(scenes.image_ids)
    assert [annotation["id"] for annotation in truth["annotations"]] == list(range(1, len(truth["annotations"]) + 1))
    for record in range(12):
        mine = [row for row in truth["annotations"] if row["image_id"] == scenes.image_ids[record]]
        x, y, width, height = np.array([row["bbox"] for row in mine]).T
        assert np.array_equal(np.stack([x, y, x + width, y + height], 1), scenes[record].boxes)
        ids = [scenes.classes.category_ids[label] for label in scenes[record].labels]
        assert [row["category_id"] for row in mine] == ids


@pytest.mark.parametrize(
    "config",
    [
        Digits(max_size=65),
        Digits(min_digits=4),
        Digits(min_contrast=0.9),
        Digits(max_overlap=2.0),
        Digits(seed=-1),
        Digits(noise=-0.1),
        Digits(val_images=0),
        Digits(min_size=2),
    ],
    ids=str,
)
def test_fields_that_contradict_each_other_are_named(config):
    with pytest.raises(DataError, match=r"digits needs .*; got"):
        config.open("train")


def test_an_unknown_split_and_an_unknown_record_are_refused():
    with pytest.raises(DataError, match="train and val; got 'test'"):
        Digits().open("test")
    with pytest.raises(IndexError, match="records 0 to 199; got 200"):
        Digits().open("val")[200]
