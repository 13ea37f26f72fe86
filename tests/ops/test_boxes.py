import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from vitjax.ops.boxes import (
    area,
    cxcywh_from_xyxy,
    generalized_iou,
    inverse_sigmoid,
    iou,
    xyxy_from_cxcywh,
)

SIDE = 12
POINT, BOX, OTHER = [0.3, 0.3, 0.3, 0.3], [0.2, 0.2, 0.6, 0.7], [0.7, 0.8, 0.9, 1.0]
LINE = [0.2, 0.4, 0.6, 0.4]
DEGENERATE = [(POINT, POINT), (POINT, BOX), (BOX, POINT), (LINE, LINE), (LINE, BOX), (BOX, BOX), (POINT, OTHER)]
TOUCHING = [([0.0, 0.0, 0.5, 0.5], [0.5, 0.5, 1.0, 1.0]), ([0.0] * 4, [0.0] * 4)]

both = jax.jit(lambda a, b: (iou(a, b)[0], generalized_iou(a, b)))


def corners(steps):
    """Six xyxy boxes with corners on a grid of so many steps, boxes without area among them."""
    pairs = hnp.arrays(np.int32, (6, 2, 2), elements=st.integers(0, steps))
    return pairs.map(lambda p: np.sort(p, axis=1).reshape(6, 4))


def counted(a, b):
    """IoU and its generalised form of two boxes on a grid, by counting cells, in float64."""
    covered = np.zeros((2, SIDE, SIDE), bool)
    for layer, (left, top, right, bottom) in zip(covered, (a, b), strict=True):
        layer[top:bottom, left:right] = True
    overlap, union = covered.all(0).sum(), covered.any(0).sum()
    hull = np.prod(np.maximum(a[2:], b[2:]) - np.minimum(a[:2], b[:2]))
    ratio = overlap / union if union else 0.0
    return ratio, ratio - ((hull - union) / hull if hull else 0.0)


@settings(deadline=None, max_examples=100)
@given(corners(SIDE), corners(SIDE))
def test_ious_are_those_of_counted_cells(a, b):
    wanted = np.array([counted(*pair) for pair in zip(a, b, strict=True)])
    found = both(a.astype(np.float32) / SIDE, b.astype(np.float32) / SIDE)
    np.testing.assert_allclose(np.stack(found, 1), wanted, atol=1e-5)


def test_centre_and_size_come_back_also_of_a_box_turned_inside_out():
    boxes = np.array([BOX, POINT, [0.6, 0.7, 0.2, 0.2]], np.float32)
    np.testing.assert_allclose(xyxy_from_cxcywh(cxcywh_from_xyxy(jnp.asarray(boxes))), boxes, atol=1e-6)
    np.testing.assert_allclose(cxcywh_from_xyxy(jnp.asarray(boxes[2])), [0.4, 0.45, -0.4, -0.5], atol=1e-6)


def test_a_little_in_both_denominators_counts_where_boxes_are_small():
    a, b = np.array([0.0, 0.0, 2e-3, 2e-3]), np.array([1e-3, 0.0, 3e-3, 2e-3])
    overlap, union, hull, little = 2e-6, 6e-6, 6e-6, 1e-6
    wanted = overlap / (union + little) - (hull - union) / (hull + little)
    found = generalized_iou(jnp.asarray(a, jnp.float32), jnp.asarray(b, jnp.float32), little)
    np.testing.assert_allclose(found, wanted, rtol=1e-4)
    assert not np.allclose(generalized_iou(jnp.asarray(a, jnp.float32), jnp.asarray(b, jnp.float32)), wanted, rtol=0.1)


@settings(deadline=None, max_examples=100)
@given(corners(4096), corners(4096))
def test_generalized_iou_is_at_most_iou_and_both_are_bounded_and_symmetric(a, b):
    a, b = a.astype(np.float32) / 4096, b.astype(np.float32) / 4096
    plain, general = (np.asarray(x) for x in both(a, b))
    assert (general <= plain + 1e-6).all() and (plain >= 0).all() and (plain <= 1 + 1e-6).all()
    assert (general >= -1 - 1e-6).all()
    np.testing.assert_allclose(np.stack(both(b, a)), np.stack([plain, general]), atol=1e-6)


def test_boxes_without_area_and_equal_boxes_have_finite_values_and_gradients():
    a, b = np.float32(DEGENERATE + TOUCHING).swapaxes(0, 1)
    value, gradients = jax.jit(jax.value_and_grad(lambda a, b: generalized_iou(a, b).sum(), argnums=(0, 1)))(a, b)
    assert np.isfinite(value) and all(np.isfinite(g).all() for g in gradients)


def test_a_box_is_pulled_towards_one_that_it_does_not_touch():
    gradient = jax.jit(jax.grad(generalized_iou))(np.float32([0.1, 0.1, 0.2, 0.2]), np.float32([0.6, 0.1, 0.8, 0.2]))
    assert gradient[2] > 0


def test_equal_boxes_overlap_wholly_and_distant_points_not_at_all():
    _, found = both(np.float32([BOX, POINT]), np.float32([BOX, [0.9, 0.9, 0.9, 0.9]]))
    np.testing.assert_allclose(found, [1, -1], atol=1e-6)


def test_corners_lie_half_a_side_from_the_centre_and_keep_the_area():
    boxes = np.random.default_rng(0).uniform(0.1, 0.9, (50, 4)).astype(np.float32)
    xyxy = xyxy_from_cxcywh(jnp.asarray(boxes))
    np.testing.assert_allclose((xyxy[:, :2] + xyxy[:, 2:]) / 2, boxes[:, :2], atol=1e-6)
    np.testing.assert_allclose(xyxy[:, 2:] - xyxy[:, :2], boxes[:, 2:], atol=1e-6)
    np.testing.assert_allclose(area(xyxy), boxes[:, 2] * boxes[:, 3], atol=1e-6)
    np.testing.assert_allclose(xyxy_from_cxcywh(jnp.array([0.5, 0.25, 0.5, 0.25])), [0.25, 0.125, 0.75, 0.375])


def test_the_inverse_of_the_sigmoid_is_kept_from_both_ends_and_has_finite_gradients():
    inner = jnp.linspace(1e-4, 1 - 1e-4, 99)
    np.testing.assert_allclose(jax.nn.sigmoid(inverse_sigmoid(inner)), inner, rtol=1e-5)
    beyond = jnp.array([-3.0, 0.0, 1e-7, 1.0, 2.0])
    np.testing.assert_allclose(inverse_sigmoid(beyond), np.log(1e-5) * np.array([1, 1, 1, -1, -1]), rtol=1e-6)
    assert np.isfinite(jax.grad(lambda x: inverse_sigmoid(x).sum())(beyond)).all()
