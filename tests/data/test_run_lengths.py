import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as coco_masks

from vitjax.data.run_lengths import SegmentationFault, decode, encode, encoded, gathered, lengths_of

SIDE = st.integers(1, 40)


def runs(mask):
    """The lengths of runs down the columns, the first of them of zeros."""
    flat = mask.flatten(order="F")
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flat]).astype(int)))
    return np.diff([0, *edges.tolist(), len(flat)]).tolist()


@settings(deadline=None, max_examples=60)
@given(st.tuples(SIDE, SIDE).flatmap(lambda shape: arrays(bool, shape)))
def test_run_lengths_in_either_form_are_the_mask(mask):
    size = mask.shape
    counts = encode(mask)
    assert lengths_of(counts).tolist() == runs(mask) and np.array_equal(decode(counts, size), mask)
    for form in (counts, counts.decode(), runs(mask)):
        if mask.any():
            assert encoded({"size": list(size), "counts": form}, size) == (counts, 0)


def test_long_runs_take_several_signs():
    mask = np.zeros((1500, 1200), bool)
    mask[700:, 500:] = mask[3, 4] = True
    assert lengths_of(encode(mask)).tolist() == runs(mask)


def test_polygons_are_those_of_pycocotools_however_they_are_nested():
    first, second = [2.5, 2, 9, 3, 7, 9.25], [10, 10, 14, 10, 14, 14, 10, 14]
    expected = coco_masks.merge(coco_masks.frPyObjects([first, second], 16, 20))["counts"]
    pairs = [np.reshape(each, (-1, 2)).tolist() for each in (first, second)]
    for form in ([first, second], pairs, [[first], [second]]):
        assert encoded(form, (16, 20)) == (expected, 0)
    alone = coco_masks.frPyObjects([first], 16, 20)[0]["counts"]
    for form in ([first], first, pairs[0], [pairs[0]]):
        assert encoded(form, (16, 20)) == (alone, 0)
    assert encoded([first, [], [1, 2, 3, 4]], (16, 20)) == (alone, 2)  # two points are no box


@pytest.mark.parametrize(
    ("segmentation", "fault"),
    [
        (None, "no segmentation"), ([], "no segmentation"), ({}, "no segmentation"),
        ([[]], "fewer than three points"), ([[1, 2, 3, 4]], "fewer than three points"),
        ([[0, 0, 1e9, 0, 5, 5]], "far outside"), ([[0, 0, float("nan"), 0, 5, 5]], "far outside"),
        ([[0, 0, 0, 0, 0, 0]], "without a pixel"), ({"size": [2, 2], "counts": [4]}, "without a pixel"),
        ("outline", "makes no sense"), (7, "makes no sense"), ([["a"] * 6], "makes no sense"),
        ([[True] * 6], "makes no sense"), ([[1, 2, 3, 4, 5, 6, 7]], "makes no sense"),
        ({"counts": "4", "size": None}, "makes no sense"), ({"counts": None, "size": [2, 2]}, "makes no sense"),
        ({"counts": "", "size": [2, 2]}, "makes no sense"), ({"counts": [], "size": [2, 2]}, "makes no sense"),
        ({"counts": "oooo", "size": [2, 2]}, "makes no sense"), ({"counts": "é", "size": [2, 2]}, "makes no sense"),
        ({"counts": "o" * 30 + "0", "size": [2, 2]}, "makes no sense"),
        ({"counts": [1.5, 2.5], "size": [2, 2]}, "makes no sense"),
        ({"counts": [1, -2, 5], "size": [2, 2]}, "do not add up"),
        ({"counts": [1, 2], "size": [2, 2]}, "do not add up"),
        ({"counts": [2**62, 2**62, 2**62, 2**62 + 4], "size": [2, 2]}, "do not add up"),
        ({"counts": "0P9", "size": [2, 2]}, "do not add up"), ({"counts": [1, 5], "size": [2, 3]}, "another size"),
        ({"counts": [1, 5], "size": [0, 2]}, "another size"),
    ],
    ids=str,
)  # fmt: skip
def test_what_gives_no_mask_is_told_why(segmentation, fault):
    with pytest.raises(SegmentationFault, match=fault):
        encoded(segmentation, (2, 2))


def test_many_masks_lie_in_one_array():
    masks = [np.random.default_rng(seed).random((5, 7)) < 0.5 for seed in range(4)]
    stored = gathered(map(encode, masks))
    assert len(stored) == 4 and len(gathered([])) == 0
    assert all(np.array_equal(decode(stored[row], (5, 7)), mask) for row, mask in enumerate(masks))
