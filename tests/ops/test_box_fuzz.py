"""Boxes of any size and of none, against exact arithmetic; and what is none, which spoils no other."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from vitjax.evaluation.overlaps import overlaps
from vitjax.inference.suppression import suppress
from vitjax.ops.boxes import area, cxcywh_from_xyxy, generalized_iou, inverse_sigmoid, iou, xyxy_from_cxcywh
from vitjax.ops.suppression import unsuppressed
from vitjax.prediction import Prediction

BOXES = 6
SMALL, LARGE = (float(np.float32(number)) for number in (1e-9, 1e9))
SIDE = st.just(0.0) | st.floats(SMALL, LARGE, width=32) | st.floats(0.0625, 1, width=32)
PLACE = SIDE | SIDE.map(lambda side: -side)
ANYTHING = hnp.arrays(np.float32, (BOXES, 4), elements=st.floats(width=32) | st.sampled_from([0.0, 0.5, 1.0, 2.0]))
ORDERED = st.lists(st.tuples(PLACE, PLACE, SIDE, SIDE), min_size=BOXES, max_size=BOXES).map(
    lambda rows: np.array(
        [[x, y, np.float32(x) + np.float32(w), np.float32(y) + np.float32(h)] for x, y, w, h in rows], np.float32
    )
)


@jax.jit
def measured(a, b):
    return iou(a, b)[0], generalized_iou(a, b), area(a), xyxy_from_cxcywh(a), cxcywh_from_xyxy(a)


def exact(a, b):
    """IoU, its generalised form and the first one's area, of xyxy boxes in order, as fractions."""
    a, b = ([Fraction(float(number)) for number in box] for box in (a, b))
    overlap = max(min(a[2], b[2]) - max(a[0], b[0]), 0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    union = sum(areas) - overlap
    hull = (max(a[2], b[2]) - min(a[0], b[0])) * (max(a[3], b[3]) - min(a[1], b[1]))
    ratio = overlap / union if union else Fraction(0)
    return ratio, ratio - ((hull - union) / hull if hull else 0), areas[0]


def are_exact(a, b):
    found = [np.asarray(each, np.float64) for each in measured(a, b)]
    wanted = np.array([[float(number) for number in exact(*pair)] for pair in zip(a, b, strict=True)]).T
    np.testing.assert_allclose(found[0], wanted[0], atol=2e-6)
    np.testing.assert_allclose(found[1], wanted[1], atol=2e-6)
    np.testing.assert_allclose(found[2], wanted[2], rtol=1e-6)
    np.testing.assert_allclose(np.diag(overlaps(a, b)), wanted[0], atol=1e-12)
    # There and back: to the rounding of the larger of place and side.
    back, size = cxcywh_from_xyxy(jnp.asarray(measured(a, b)[3])), np.abs(a).max(1, keepdims=True)
    assert (np.abs(np.asarray(back) - a) <= 4e-7 * size).all()
    return True


@settings(max_examples=60, deadline=None, derandomize=True)
@given(ORDERED, ORDERED)
def test_ious_of_boxes_of_any_size_are_exact(a, b):
    assert are_exact(a, b)


@pytest.mark.long
@settings(max_examples=10_000, deadline=None)
@given(ORDERED, ORDERED)
def test_ious_of_many_boxes_are_exact(a, b):
    assert are_exact(a, b)


def are_kept_apart(a, b):
    """What any numbers give: an IoU from 0 to 1, 0 of what is no box, and NaN only on the axis that has it."""
    ratio, _, _, corners, sizes = (np.asarray(each) for each in measured(a, b))
    assert ((ratio >= 0) & (ratio <= 1 + 1e-6)).all()
    for before, after in ((a, corners), (a, sizes)):
        for axis in (0, 1):
            fine = np.isfinite(before[:, axis::2]).all(1)
            assert not np.isnan(after[fine, axis::2]).any()
    none = np.isnan(a).any(1) | (a[:, 2:] <= a[:, :2]).any(1)
    assert (ratio[none] == 0).all()
    with np.errstate(all="ignore"):
        host = overlaps(np.nan_to_num(a), np.nan_to_num(b))
    assert ((host >= 0) & (host <= 1 + 1e-9)).all()
    return True


@settings(max_examples=60, deadline=None, derandomize=True)
@given(ANYTHING, ANYTHING)
def test_what_is_no_box_overlaps_nothing(a, b):
    assert are_kept_apart(a, b)


@pytest.mark.long
@settings(max_examples=10_000, deadline=None)
@given(ANYTHING, ANYTHING)
def test_many_things_that_are_no_boxes_overlap_nothing(a, b):
    assert are_kept_apart(a, b)


logits = jax.jit(lambda x: (inverse_sigmoid(x), jax.grad(lambda x: inverse_sigmoid(x).sum())(x)))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(hnp.arrays(np.float32, (8,), elements=st.floats(width=32)))
def test_the_logit_of_any_number_is_bounded_and_that_of_nan_is_nan(numbers):
    found, gradient = (np.asarray(each) for each in logits(numbers))
    real = ~np.isnan(numbers)
    assert (np.isnan(found) == ~real).all() and np.isfinite(gradient[real]).all()
    assert (np.abs(found[real]) <= 11.52).all()
    back = 1 / (1 + np.exp(-found[real].astype(np.float64)))
    np.testing.assert_allclose(back, np.clip(numbers[real], 1e-5, 1 - 1e-5), atol=2e-6, rtol=1e-5)


kept_on_device = jax.jit(unsuppressed, static_argnums=2)
GRID = hnp.arrays(np.int8, (BOXES, 4), elements=st.integers(0, 8)).map(
    lambda rows: np.concatenate([rows[:, :2], rows[:, :2] + rows[:, 2:] % 5], 1).astype(np.float32)
)
STRANGE = st.tuples(st.integers(0, BOXES - 1), st.integers(0, 3), st.sampled_from([np.nan, np.inf, -np.inf, 1e15]))


def are_suppressed_alike(boxes, labels, overlap, strange):
    for row, place, number in strange:
        boxes[row, place] = number
    scores = np.linspace(1, 0.5, BOXES, dtype=np.float32)
    prediction = Prediction(boxes, scores, labels, tuple("ab"[label] for label in labels))
    with np.errstate(all="ignore"):
        host = suppress(prediction, overlap)
    device = np.asarray(kept_on_device(boxes, labels, overlap))
    none = ~np.isfinite(boxes).all(1)
    kept = np.isin(scores, np.asarray(host.scores))
    assert kept[none].all() and device[none].all()
    np.testing.assert_array_equal(kept, device)
    wanted = np.ones(BOXES, bool)
    for place in range(BOXES):
        rivals = [other for other in range(place) if wanted[other] and labels[other] == labels[place]]
        rivals = [other for other in rivals if not (none[other] or none[place])]
        wanted[place] = all(exact(boxes[other], boxes[place])[0] <= overlap for other in rivals)
    np.testing.assert_array_equal(kept, wanted)
    return True


DOUBLES = given(
    GRID,
    hnp.arrays(np.int32, (BOXES,), elements=st.integers(0, 1)),
    st.sampled_from([0.0, 0.25, 0.5, 1.0]),
    st.lists(STRANGE, max_size=2),
)


@settings(max_examples=40, deadline=None, derandomize=True)
@DOUBLES
def test_doubles_are_found_alike_on_host_and_device(boxes, labels, overlap, strange):
    assert are_suppressed_alike(boxes, labels, overlap, strange)


@pytest.mark.long
@settings(max_examples=5_000, deadline=None)
@DOUBLES
def test_many_doubles_are_found_alike_on_host_and_device(boxes, labels, overlap, strange):
    assert are_suppressed_alike(boxes, labels, overlap, strange)
