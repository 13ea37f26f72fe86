"""Precision, recall and F1 by the score from which on detections are taken, against a count of them."""

import math

import numpy as np
import pytest

from evaluation.test_coco import BOX, FAR, annotation, random_scene, result, truth
from vitjax.evaluation.coco import evaluate_boxes
from vitjax.evaluation.thresholds import GRID, Ranked, at_thresholds, best_point, operating_points, together


def drawn(seed, size=40):
    """Detections with ties among their scores."""
    rng = np.random.default_rng(seed)
    hits = rng.random(size) < 0.4
    return Ranked(rng.random(size).round(1), hits, int(hits.sum()) + int(rng.integers(0, 9)))


def counted(ranked, threshold):
    """Precision, recall and F1 by their definitions."""
    taken = ranked.scores >= threshold
    right = (taken & ranked.hits).sum()
    precision, recall = right / taken.sum() if taken.any() else math.nan, right / ranked.objects
    f1 = 2 * precision * recall / (precision + recall) if right else 0.0
    return precision, recall, f1


@pytest.mark.parametrize("seed", range(8))
def test_the_best_point_is_the_best_of_all_that_there_are(seed):
    ranked = drawn(seed)
    best = best_point(ranked)
    assert best.f1 == pytest.approx(max(counted(ranked, score)[2] for score in ranked.scores))
    assert best[1:] == pytest.approx(counted(ranked, best.threshold))
    assert len(repr(best.threshold)) <= 5, "it lies between scores of one decimal, so two are enough"


def test_of_equal_points_that_with_fewest_detections_is_taken():
    """One hit of one object, and one of two among three: both are F1 of 2/3."""
    ranked = Ranked(np.array([0.9, 0.8, 0.7, 0.6]), np.array([True, False, False, True]), 2)
    assert best_point(ranked) == pytest.approx((0.85, 1.0, 0.5, 2 / 3))


def test_a_threshold_takes_scores_that_differ_by_the_last_digit_apart():
    close = np.nextafter(np.float64(0.3), 1)
    best = best_point(Ranked(np.array([close, 0.3]), np.array([True, False]), 1))
    assert 0.3 < best.threshold <= close and best.f1 == 1
    assert best_point(Ranked(np.array([1.0, 1.0]), np.array([True, False]), 1)).precision == 0.5
    assert 0 < best_point(Ranked(np.array([1e-7]), np.array([True]), 1)).threshold <= 1e-7


@pytest.mark.parametrize(
    "ranked", [Ranked(np.array([0.5]), np.array([False]), 1), Ranked(np.zeros(0), np.zeros(0, bool), 1)]
)
def test_where_nothing_right_is_found_no_threshold_is_best(ranked):
    assert best_point(ranked) is None and operating_points(["cat"], [ranked]) is None


@pytest.mark.parametrize("seed", range(4))
def test_curves_are_what_a_count_at_every_threshold_gives(seed):
    ranked, thresholds = drawn(seed), np.array([0.0, 0.05, 0.3, 0.9, 0.95, 1.0])
    expected = np.array([counted(ranked, threshold) for threshold in thresholds]).T
    np.testing.assert_allclose(at_thresholds(ranked, thresholds), expected)


def test_without_objects_there_is_no_curve():
    assert np.isnan(at_thresholds(Ranked(np.array([0.5]), np.array([False]), 0), GRID)).all()


def test_what_is_ranked_is_what_coco_counts():
    """A double and a far box are wrong, what lies on a crowd counts for nothing, a class without results has none."""
    ground_truth = truth(
        annotation(1),
        annotation(2, bbox=FAR, iscrowd=1),
        annotation(3, category_id=2),
        categories=((1, "cat"), (2, "dog")),
    )
    found = [result(0.9), result(0.8), result(0.7, bbox=FAR), result(0.6, bbox=[400, 10, 40, 40])]
    scores = evaluate_boxes(ground_truth, found)
    cat, dog = scores.ranked
    assert (cat.scores.tolist(), cat.hits.tolist(), cat.objects) == ([0.9, 0.8, 0.6], [True, False, False], 1)
    assert (len(dog.scores), dog.objects) == (0, 1)
    points = operating_points(["cat", "dog"], scores.ranked)
    assert points["threshold"] == 0.85 and points["f1"] == pytest.approx(2 / 3, abs=1e-4)
    assert [one["name"] for one in points["classes"]] == ["cat"] and points["classes"][0]["f1"] == 1


@pytest.mark.parametrize("seed", range(3))
def test_the_recall_of_all_that_is_ranked_is_that_of_coco(seed):
    scores = evaluate_boxes(*random_scene(seed))
    recalls = [at_thresholds(one, np.zeros(1))[1, 0] for one in scores.ranked]
    np.testing.assert_allclose(recalls, scores.arrays["recall"][0, :, 0, -1], atol=1e-6)
    by_threshold = scores.arrays["by_threshold"]
    assert by_threshold.shape == (4, 3, len(scores.arrays["thresholds"]))
    np.testing.assert_allclose(by_threshold[-1], at_thresholds(together(scores.ranked), GRID), atol=1e-6)


def test_a_box_is_right_from_an_iou_of_a_half_on():
    half = [BOX[0], BOX[1], 40.0, 20.0]
    assert evaluate_boxes(truth(annotation(1)), [result(0.9, bbox=half)]).ranked[0].hits.all()
    assert not evaluate_boxes(truth(annotation(1)), [result(0.9, bbox=[*half[:3], 19.9])]).ranked[0].hits.any()
