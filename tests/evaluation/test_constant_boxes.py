"""The boxes of a detector that does not look: found by hand, compared with simpler constant answers, and scored."""

import json

import numpy as np
import pytest

from vitjax.data.annotations import AnnotatedImages, Annotations
from vitjax.data.errors import DataError
from vitjax.data.source import Classes, Sample
from vitjax.errors import VitjaxError
from vitjax.evaluation import box_checks
from vitjax.evaluation.constant_boxes import (
    ConstantBoxes,
    Objects,
    constant_boxes,
    objects_of,
    read_constant_boxes,
    score_constant_boxes,
)

CLASSES = Classes(("cat", "dog"), (3, 7))


class Annotated(AnnotatedImages):
    """Images of which nothing but the annotations is known."""

    def __getitem__(self, record):
        raise AssertionError("no image is looked at")


def source_of(shares, records, labels=None, *, sizes=None, crowds=None):
    """A source of images with boxes that are given as shares of their sides."""
    records = np.asarray(records, np.int64)
    sizes = np.full((records.max(initial=0) + 1, 2), 100, np.int32) if sizes is None else np.asarray(sizes, np.int32)
    boxes = np.asarray(shares, np.float64).reshape(-1, 4) * sizes[records][:, [1, 0, 1, 0]]
    labels = np.zeros(len(records), np.int32) if labels is None else np.asarray(labels, np.int32)
    crowds = np.zeros(len(records), bool) if crowds is None else np.asarray(crowds, bool)
    table = Annotations(records, boxes, labels, np.prod(boxes[:, 2:] - boxes[:, :2], axis=1), crowds)
    names = tuple(f"{record}.jpg" for record in range(len(sizes)))
    return Annotated(CLASSES, sizes, tuple(range(10, 10 + len(sizes))), names, table, ())


def photographs(seed, count=80):
    """One large object near the middle of each photograph, of many sizes, as people take them."""
    rng = np.random.default_rng(seed)
    half = np.clip(rng.normal((0.28, 0.35), 0.09, (count, 2)), 0.05, 0.48)
    centre = np.clip(rng.normal(0.5, 0.1, (count, 2)), half, 1 - half)
    shares = np.concatenate([centre - half, centre + half], axis=1)
    return source_of(shares, np.arange(count), sizes=rng.integers(200, 900, (count, 2)))


def score(source, boxes, scores=None):
    """AP50 of some boxes of cats on every image."""
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    scores = np.ones(len(boxes)) if scores is None else np.asarray(scores)
    return score_constant_boxes(ConstantBoxes(boxes, np.zeros(len(boxes), np.int64), scores), source).scores["AP50"]


def test_where_all_objects_are_in_one_place_one_box_finds_them_in_images_of_any_size():
    source = source_of([[0.2, 0.3, 0.6, 0.8]] * 3, [0, 1, 2], [1, 1, 1], sizes=[(50, 90), (400, 30), (77, 77)])
    found = constant_boxes(objects_of(source))
    np.testing.assert_allclose(found.boxes, [[0.2, 0.3, 0.6, 0.8]])
    assert found.labels.tolist() == [1] and found.scores.tolist() == [1.0]
    assert score_constant_boxes(found, source) == (
        "the same box on every image", {"AP": pytest.approx(1.0), "AP50": pytest.approx(1.0)}
    )  # fmt: skip


def test_each_box_finds_most_of_what_those_before_it_left_and_its_score_is_the_share_of_images():
    """Of four images two have an object on the left, one on the right, and one has both and none."""
    left, right = [0.0, 0.2, 0.3, 0.9], [0.7, 0.1, 1.0, 0.5]
    found = constant_boxes(
        objects_of(source_of([left, left, right, left, right], [0, 1, 2, 3, 3], sizes=[(60, 80)] * 5))
    )
    np.testing.assert_allclose(found.boxes[:2], [left, right], atol=1e-9)
    assert found.scores.tolist() == pytest.approx([3 / 5, 2 / 5]) and len(found.boxes) == 2


def test_a_box_finds_one_object_of_an_image_as_coco_counts():
    same = [0.1, 0.1, 0.5, 0.5]
    found = constant_boxes(objects_of(source_of([same, same], [0, 0])))
    assert found.scores.tolist() == [1.0, 1.0]


def test_classes_have_boxes_of_their_own_and_crowds_none():
    boxes = [[0, 0, 0.5, 0.5], [0.5, 0.5, 1, 1], [0.2, 0.2, 0.9, 0.9]]
    found = constant_boxes(objects_of(source_of(boxes, [0, 1, 2], [0, 1, 1], crowds=[0, 0, 1])))
    assert sorted(found.labels.tolist()) == [0, 1] and found.scores.tolist() == pytest.approx([1 / 3, 1 / 3])


@pytest.mark.parametrize("seed", range(3))
def test_it_is_better_than_the_median_box_and_than_the_middles_of_clusters(seed):
    source = photographs(seed)
    shares = objects_of(source).boxes
    chosen = constant_boxes(objects_of(source))
    best = score(source, chosen.boxes, chosen.scores)
    assert best > score(source, np.median(shares, axis=0)) > 0.2
    assert best > score(source, shares[::4])
    assert best == pytest.approx(
        score_constant_boxes(read_constant_boxes(box_checks.constant(source)), source).scores["AP50"], abs=1e-4
    )
    assert 0 < len(chosen.boxes) <= 20 and (np.diff(chosen.scores) <= 0).all()


def test_the_share_that_the_first_box_finds_is_its_recall():
    """The scores are what COCO finds: the matched share of images, by one box alone."""
    source = photographs(3)
    chosen = constant_boxes(objects_of(source))
    ground_truth = source.ground_truth()
    from vitjax.evaluation.coco import evaluate_boxes, to_results

    sides = source.sizes[:, None, [1, 0, 1, 0]]
    shape = (len(source), len(chosen.labels))
    results = to_results(
        source.image_ids, np.broadcast_to(chosen.scores, shape), np.broadcast_to(chosen.labels, shape),
        chosen.boxes * sides, CLASSES.category_ids,
    )  # fmt: skip
    ranked = evaluate_boxes(ground_truth, results).ranked[0]
    for place, value in enumerate(np.unique(chosen.scores)[::-1].round(7)):
        boxes = (chosen.scores.round(7) == value).sum()
        assert ranked.hits[ranked.scores == value].sum() == pytest.approx(boxes * value * len(source), abs=1e-4), place


def test_it_is_the_same_every_time_and_survives_json():
    one, other = (constant_boxes(objects_of(photographs(1))) for _ in range(2))
    np.testing.assert_array_equal(one.boxes, other.boxes)
    read = read_constant_boxes(json.loads(json.dumps(one.to_json())))
    np.testing.assert_allclose(read.boxes, one.boxes, atol=1e-6)
    assert read.labels.tolist() == one.labels.tolist()


@pytest.mark.parametrize(
    "content",
    [{}, {"boxes": [[0, 0, 1]], "labels": [0], "scores": [1]}, {"boxes": [], "labels": [0], "scores": []},
     {"boxes": [[0, 0, 1, float("nan")]], "labels": [0], "scores": [1]}, {"boxes": "x", "labels": [], "scores": []}],
)  # fmt: skip
def test_what_is_no_constant_answer_is_refused(content):
    with pytest.raises(VitjaxError, match="a constant answer has"):
        read_constant_boxes(content)


def test_a_label_that_the_data_does_not_have_is_left_out():
    source = source_of([[0, 0, 1, 1]], [0])
    constant = ConstantBoxes(np.array([[0.0, 0, 1, 1]] * 2), np.array([0, 5]), np.ones(2))
    assert score_constant_boxes(constant, source).scores["AP"] == pytest.approx(1.0)


def test_without_objects_there_are_no_boxes_and_no_scores():
    source = source_of(np.zeros((0, 4)), np.zeros(0, np.int64))
    constant = constant_boxes(objects_of(source))
    assert len(constant.boxes) == 0
    assert np.isnan(score_constant_boxes(constant, source).scores["AP"])


def test_of_many_images_some_from_all_over_are_scored_and_that_is_said():
    source = source_of([[0.0, 0, 1, 1]] * 1500, np.arange(1500))
    baseline = score_constant_boxes(constant_boxes(objects_of(source)), source)
    assert baseline.answer == "the same box on every image (1,000 of 1,500 images)"
    assert baseline.scores["AP"] == pytest.approx(1.0)


class Read:
    """A source whose objects are only with its images, of which the third cannot be read."""

    classes, problems = CLASSES, ()

    def __init__(self, whole):
        self.whole, self.sizes, self.image_ids, self.max_objects = whole, whole.sizes, whole.image_ids, 9

    def __len__(self):
        return len(self.whole)

    def name(self, record):
        return self.whole.name(record)

    def ground_truth(self):
        return self.whole.ground_truth()

    def __getitem__(self, record):
        if record == 2:
            raise DataError("broken")
        boxes, labels = self.whole.annotations.targets(record, self.whole.sizes[record].tolist())
        return Sample(np.zeros((1, 1, 3), np.uint8), boxes, labels)


def test_objects_that_are_only_with_the_images_are_read_with_them():
    whole = source_of([[0.1, 0.1, 0.5, 0.5], [0, 0, 1, 1], [0, 0, 1, 1], [0.2, 0.2, 0.4, 0.4]], [0, 0, 2, 3])
    found: Objects = objects_of(Read(whole))
    assert found.rows.tolist() == [0, 0, 3] and found.images == 4
    np.testing.assert_allclose(found.boxes, objects_of(whole).boxes[[0, 1, 3]], atol=1e-6)
