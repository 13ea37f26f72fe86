"""Losses and matching of boxes without extent, of huge ones and of numbers that are none, against exact arithmetic."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.optimize import linear_sum_assignment

from vitjax.detection.dino_loss import DINOLoss
from vitjax.detection.focal_loss import FocalSetLoss
from vitjax.detection.loss import SetLoss
from vitjax.detection.matcher import assign
from vitjax.structs import ANSWER, Assignment, Predictions, PredictionSet, Targets

IMAGES, QUERIES, OBJECTS, CLASSES = 2, 4, 3, 3
LOSSES = {"set": SetLoss(), "focal": FocalSetLoss(), "dino": DINOLoss()}
SIDE = st.sampled_from([0.0, 1.0]) | st.floats(0.015625, 1, width=32)
PLACE = st.sampled_from([0.0, 0.5, 1.0]) | st.floats(0.015625, 1, width=32)
LOGIT = st.floats(-200, 200, width=32) | st.sampled_from([-1e4, 0.0, 1e4])


def boxes_of(count):
    shape = (IMAGES, count, 2)
    pair = st.tuples(hnp.arrays(np.float32, shape, elements=PLACE), hnp.arrays(np.float32, shape, elements=SIDE))
    return pair.map(lambda parts: np.concatenate(parts, -1))


QUERY_OF_EACH = st.lists(st.permutations(range(QUERIES)).map(lambda order: order[:OBJECTS]), min_size=2, max_size=2)
CASE = st.tuples(
    hnp.arrays(np.float32, (IMAGES, QUERIES, CLASSES), elements=LOGIT),
    boxes_of(QUERIES),
    boxes_of(OBJECTS),
    hnp.arrays(np.int32, (IMAGES, OBJECTS), elements=st.integers(0, CLASSES - 2)),
    hnp.arrays(bool, (IMAGES, OBJECTS)),
    QUERY_OF_EACH.map(lambda rows: np.array(rows, np.int32)),
    hnp.arrays(bool, (IMAGES, OBJECTS)),
)


@jax.jit
def losses_of(logits, boxes, wanted, labels, valid, queries):
    """The total of each loss with its gradients to logits and boxes, and the terms of boxes."""
    targets, assignment = Targets(wanted, labels, valid), Assignment({ANSWER: queries[None]})

    def total(loss, logits, boxes):
        terms = loss(Predictions({ANSWER: PredictionSet(logits[None], boxes[None])}), targets, assignment)
        return loss.total(terms), {name: terms[name].total[0] for name in ("box", "giou")}

    grad = jax.value_and_grad(total, argnums=(1, 2), has_aux=True)
    return {name: grad(loss, logits, boxes) for name, loss in LOSSES.items()}


def box_terms(boxes, wanted, valid, queries, epsilon):
    """L1 and one minus generalised IoU of all pairs, in float64."""
    distance = overlap = 0.0
    for image, place in np.argwhere(valid & (queries >= 0)):
        a, b = (np.float64(box) for box in (boxes[image, queries[image, place]], wanted[image, place]))
        distance += np.abs(a - b).sum()
        (al, at, ar, ab), (bl, bt, br, bb) = (np.concatenate([c[:2] - c[2:] / 2, c[:2] + c[2:] / 2]) for c in (a, b))
        shared = max(min(ar, br) - max(al, bl), 0) * max(min(ab, bb) - max(at, bt), 0)
        union, hull = a[2] * a[3] + b[2] * b[3] - shared, (max(ar, br) - min(al, bl)) * (max(ab, bb) - min(at, bt))
        ratios = [x / (y + epsilon) if y + epsilon > 0 else 0.0 for x, y in ((shared, union), (hull - union, hull))]
        overlap += 1 - ratios[0] + ratios[1]
    return distance, overlap


def is_exact_and_finite(case):
    *given_, queries, left = case
    queries = np.where(left, -1, queries).astype(np.int32)
    _, boxes, wanted, _, valid = given_
    for name, ((value, terms), gradients) in jax.device_get(losses_of(*given_, queries)).items():
        assert np.isfinite(value) and value >= 0, name
        assert all(np.isfinite(gradient).all() for gradient in gradients), name
        expected = box_terms(boxes, wanted, valid, queries, LOSSES[name].epsilon)
        np.testing.assert_allclose([terms["box"], terms["giou"]], expected, rtol=1e-5, atol=2e-4, err_msg=name)
        unpaired = np.ones((IMAGES, QUERIES), bool)
        for image, place in np.argwhere(valid & (queries >= 0)):
            unpaired[image, queries[image, place]] = False
        assert not gradients[1][unpaired].any(), name
    return True


@settings(max_examples=40, deadline=None, derandomize=True)
@given(CASE)
def test_losses_of_any_boxes_are_exact_with_finite_gradients(case):
    assert is_exact_and_finite(case)


@pytest.mark.long
@settings(max_examples=5_000, deadline=None)
@given(CASE)
def test_losses_of_many_boxes_are_exact_with_finite_gradients(case):
    assert is_exact_and_finite(case)


STRANGE = st.sampled_from([np.nan, np.inf, -np.inf])
HIT = st.tuples(st.integers(0, IMAGES - 1), st.integers(0, QUERIES - 1), st.integers(0, 3), STRANGE)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(CASE, HIT)
def test_a_box_that_is_not_finite_is_seen_where_it_is_an_objects_and_changes_nothing_elsewhere(case, hit):
    *given_, queries, _ = case
    logits, boxes, wanted, labels, valid = given_
    image, query, place, number = hit
    broken = boxes.copy()
    broken[image, query, place] = number
    before, after = (
        jax.device_get(losses_of(logits, each, wanted, labels, valid, queries)) for each in (boxes, broken)
    )
    is_paired = (valid[image] & (queries[image] == query)).any()
    for name in LOSSES:
        if is_paired:
            assert not np.isfinite(after[name][0][0])
        else:
            assert after[name][0][0] == before[name][0][0]


PRICE = st.floats(width=32) | st.floats(-20, 20, width=32) | st.integers(-3, 3).map(float)
solve, solve_some = jax.jit(assign), jax.jit(assign)
DEAR = 1e6


def is_cheapest(cost, valid, counts):
    queries = len(cost)
    found = np.asarray(solve(cost, valid) if counts is None else solve_some(cost, valid, counts))
    counts = np.ones(queries, bool) if counts is None else counts
    chosen = found[valid]
    taken = chosen[chosen >= 0]
    prices = np.clip(np.nan_to_num(cost, nan=DEAR), -DEAR, DEAR).astype(np.float64)
    assert len(set(taken)) == len(taken) == min(valid.sum(), counts.sum())
    assert counts[taken].all() and (taken < queries).all()
    pool = prices[counts][:, valid]
    optimum = pool[linear_sum_assignment(pool)].sum()
    own = prices[taken, np.flatnonzero(valid)[chosen >= 0]].sum()
    np.testing.assert_allclose(own, optimum, atol=1e-5 + 2e-6 * np.abs(pool).max(initial=0))
    return True


def problem(queries, objects):
    return st.tuples(
        hnp.arrays(np.float32, (queries, objects), elements=PRICE),
        hnp.arrays(bool, (objects,)),
        st.none() | hnp.arrays(bool, (queries,)),
    )


PROBLEMS = problem(5, 4) | problem(3, 5)


@settings(max_examples=80, deadline=None, derandomize=True)
@given(PROBLEMS)
def test_the_matching_of_any_prices_is_the_cheapest(problem):
    assert is_cheapest(*problem)


@pytest.mark.long
@settings(max_examples=10_000, deadline=None)
@given(PROBLEMS)
def test_the_matching_of_many_prices_is_the_cheapest(problem):
    assert is_cheapest(*problem)
