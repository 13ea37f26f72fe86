"""Kinds of mistakes by hand, matches against pycocotools, and counts that must come out even."""

import numpy as np
import pytest

from evaluation.test_coco import FAR, annotation, random_scene, result, truth
from vitjax.evaluation.coco import evaluate_boxes
from vitjax.evaluation.mistakes import KINDS, RIGHT, Found, Truth, judge, mistakes_of
from vitjax.evaluation.overlaps import overlaps
from vitjax.evaluation.thresholds import together

CATS = ((1, "cat"), (2, "dog"))
THIRD = [10.0, 10.0, 40.0, 13.0]  # IoU 0.325 with BOX
LITTLE = [10.0, 10.0, 40.0, 3.0]  # 0.075


def kinds(annotations, results, threshold=0.0):
    """The kinds that there are, and how often."""
    found = mistakes_of(truth(*annotations, categories=CATS), results, threshold)
    return {kind: count for kind, count in zip(KINDS, found.kinds.tolist(), strict=True) if count}


@pytest.mark.parametrize(
    ("results", "expected"),
    [
        ([], {"missed": 1}),
        ([result(0.9)], {}),
        ([result(0.9), result(0.8)], {"double": 1}),
        ([result(0.9, bbox=THIRD)], {"badly placed": 1}),
        ([result(0.9, category_id=2)], {"wrong class": 1}),
        ([result(0.9, category_id=2, bbox=THIRD)], {"missed": 1, "wrong class and place": 1}),
        ([result(0.9, bbox=FAR)], {"missed": 1, "background": 1}),
        ([result(0.9, bbox=LITTLE)], {"missed": 1, "background": 1}),
        ([result(0.9), result(0.8, category_id=2)], {"wrong class": 1}),
        ([result(0.9), result(0.8, bbox=THIRD)], {"badly placed": 1}),
        ([result(0.9, image_id=2)], {"missed": 1, "background": 1}),
    ],
)  # fmt: skip
def test_each_kind_of_mistake_is_told_by_hand(results, expected):
    assert kinds([annotation(1)], results) == expected


def test_a_box_on_two_objects_is_first_badly_placed_and_then_of_the_wrong_class():
    """So asks TIDE: by 0.325 on a cat and exactly on a dog."""
    both = [annotation(1), annotation(2, category_id=2, bbox=THIRD)]
    assert kinds(both, [result(0.9, bbox=THIRD)]) == {"badly placed": 1, "missed": 1}


def test_the_best_box_is_right_wherever_it_stands_and_those_below_the_threshold_do_not_count():
    found = [result(0.5), result(0.9), result(0.2, bbox=FAR)]
    assert kinds([annotation(1)], found) == {"double": 1, "background": 1}
    assert kinds([annotation(1)], found, threshold=0.5) == {"double": 1}
    assert kinds([annotation(1)], found, threshold=0.51) == {}
    assert kinds([annotation(1)], found, threshold=0.91) == {"missed": 1}


def test_boxes_on_a_crowd_are_no_mistakes_and_a_crowd_is_not_missed():
    crowd = annotation(1, iscrowd=1, bbox=[0, 0, 200, 200])
    assert kinds([crowd], [result(0.9), result(0.8, bbox=[50, 50, 20, 20])]) == {}
    assert kinds([crowd], []) == {}
    assert kinds([crowd], [result(0.9, category_id=2)]) == {"background": 1}
    assert kinds([crowd, annotation(2)], [result(0.9)]) == {}, "the object goes before the crowd around it"


def test_the_confusion_has_each_object_and_each_box_once():
    ground_truth = truth(
        annotation(1), annotation(2, bbox=FAR), annotation(3, image_id=2, category_id=2), categories=CATS
    )
    found = [
        result(0.9), result(0.8), result(0.7, category_id=2, bbox=FAR), result(0.6, category_id=2, bbox=FAR),
        result(0.5, image_id=3),
    ]  # fmt: skip
    mistakes = mistakes_of(ground_truth, found, 0.0)
    assert mistakes.names == ("cat", "dog")
    assert mistakes.confusion.tolist() == [[1, 1, 0], [0, 0, 1], [2, 1, 0]]
    assert (mistakes.objects, mistakes.found, mistakes.right) == (3, 5, 1)


def test_an_object_is_taken_for_the_class_of_the_best_box_on_it():
    found = [result(0.9, category_id=2), result(0.8, category_id=3)]
    names = (*CATS, (3, "owl"))
    confusion = mistakes_of(truth(annotation(1), categories=names), found, 0.0).confusion
    assert confusion.tolist() == [[0, 1, 0, 0], [0] * 4, [0] * 4, [0, 0, 1, 0]]


def moved(seed):
    """A random scene whose results are partly of another class and place; no two have the same score."""
    ground_truth, results = random_scene(seed)
    rng = np.random.default_rng(seed)
    for one in results:
        one["score"] = float(rng.random())
        one["bbox"] = (np.array(one["bbox"]) * rng.uniform(0.7, 1.4, 4)).tolist()
        one["category_id"] = int(rng.choice((3, 7, 8))) if rng.random() < 0.3 else one["category_id"]
    return ground_truth, results


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("threshold", [0.0, 0.4, 0.8])
def test_what_is_right_is_what_coco_counts_and_every_sum_comes_out_even(seed, threshold):
    ground_truth, results = moved(seed)
    scores, mistakes = evaluate_boxes(ground_truth, results), mistakes_of(ground_truth, results, threshold)
    all_found = together(scores.ranked)
    taken = all_found.scores >= threshold
    assert (mistakes.right, mistakes.found) == ((taken & all_found.hits).sum(), taken.sum())
    assert mistakes.objects == all_found.objects
    assert mistakes.kinds[1:].sum() == mistakes.found - mistakes.right
    assert mistakes.kinds[0] <= mistakes.objects - mistakes.right
    for label, ranked in enumerate(scores.ranked):
        of_class = ranked.scores >= threshold
        assert mistakes.confusion[label].sum() == ranked.objects
        assert mistakes.confusion[:, label].sum() == of_class.sum()
        assert mistakes.confusion[label, label] == (of_class & ranked.hits).sum()


def test_the_order_of_images_objects_and_results_changes_nothing():
    ground_truth, results = moved(7)
    one = mistakes_of(ground_truth, results, 0.3)
    turned = {**ground_truth, **{key: ground_truth[key][::-1] for key in ("images", "annotations", "categories")}}
    other = mistakes_of(turned, results[::-1], 0.3)
    np.testing.assert_array_equal(one.kinds, other.kinds)
    np.testing.assert_array_equal(one.confusion, other.confusion)


def test_of_a_class_the_hundred_best_boxes_of_an_image_count_as_they_do_for_coco():
    found = [result(0.9 - 0.001 * place, bbox=FAR) for place in range(120)] + [result(0.1)]
    assert kinds([annotation(1)], found) == {"missed": 1, "background": 100}
    assert kinds([annotation(1)], [*found, result(0.95, category_id=2)]) == {"wrong class": 1, "background": 100}


def test_the_worst_images_have_the_lowest_f1_and_of_equal_ones_most_mistakes():
    ground_truth = truth(
        *(annotation(number, image_id=number) for number in range(1, 9)), annotation(9, image_id=3, bbox=FAR),
        images=range(1, 10),
    )  # fmt: skip
    found = [result(0.9, image_id=number) for number in (1, 2, 4, 5, 6, 7)]
    found += [result(0.8, image_id=2, bbox=FAR)]
    worst = mistakes_of(ground_truth, found, 0.0, worst=3).worst
    assert [(one.image_id, one.wrong) for one in worst] == [(3, 2), (8, 1), (2, 1)]
    assert [one.f1 for one in worst] == pytest.approx([0, 0, 2 / 3])
    assert mistakes_of(ground_truth, [], 0.0, worst=1).worst[0].image_id == 3


def test_no_objects_and_no_boxes_are_no_mistakes():
    mistakes = mistakes_of(truth(), [], 0.5)
    assert not mistakes.kinds.any() and not mistakes.confusion.any() and mistakes.worst == ()
    judged = judge(
        Truth(np.zeros((0, 4)), np.zeros(0, int), np.zeros(0, bool)),
        Found(np.zeros((0, 4)), np.zeros(0, int), np.zeros(0)),
    )
    assert len(judged.kinds) == 0


def test_of_two_objects_a_box_finds_the_nearer_one():
    boxes = np.array([[0.0, 0, 10, 10], [0.0, 0, 10, 8]])
    found = Found(np.array([[0.0, 0, 10, 8.1], [0, 0, 10, 10]]), np.zeros(2, int), np.array([0.9, 0.8]))
    judged = judge(Truth(boxes, np.zeros(2, int), np.zeros(2, bool)), found)
    assert judged.finders.tolist() == [1, 0] and (judged.kinds == RIGHT).all()


def test_overlaps_are_those_of_pycocotools():
    from pycocotools import mask

    rng = np.random.default_rng(0)
    ones, others = (np.concatenate([rng.uniform(0, 50, (n, 2)), rng.uniform(0, 60, (n, 2))], 1) for n in (7, 5))
    crowds = rng.random(5) < 0.5
    expected = mask.iou(ones, others, crowds.astype(np.uint8).tolist())
    corners = [np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1) for boxes in (ones, others)]
    np.testing.assert_allclose(overlaps(*corners, crowds), expected)
    assert overlaps(np.zeros((1, 4)), np.zeros((1, 4))).tolist() == [[0.0]]
