import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask

from vitjax.data.outlines import box_of


@pytest.mark.parametrize(
    ("polygons", "box"),
    [
        ([[1, 2, 5, 2, 5, 9]], (1, 2, 4, 7)),
        ([[1, 2, 5, 2, 5, 9], [0, 3, 1, 3, 1, 4.5]], (0, 2, 5, 7)),
        ([1, 2, 5, 2, 5, 9], (1, 2, 4, 7)),
        ([[[1, 2], [5, 2], [5, 9]]], (1, 2, 4, 7)),
        ([[], [1, 2, 5, 9]], (1, 2, 4, 7)),
    ],
)
def test_the_box_of_polygons_holds_their_corners(polygons, box):
    assert box_of(polygons) == box


@pytest.mark.parametrize(
    "segmentation",
    [
        None, [], [[]], [[1, 2]], [[1, 2, 3]], [["a", "b", "c", "d"]], [[1, 2, float("nan"), 4]], "outline", 7,
        [[True] * 4], {"counts": None, "size": [2, 2]},
        {}, {"counts": [4], "size": [2, 2]}, {"counts": [1, -2, 5], "size": [2, 2]}, {"counts": [1, 2], "size": [2, 2]},
        {"counts": [4], "size": [0, 2]}, {"counts": "", "size": [2, 2]}, {"counts": "oooo", "size": [2, 2]},
        {"counts": "\u00e9", "size": [2, 2]}, {"counts": "04", "size": [10**9, 10**9]},
        {"counts": "0P9", "size": [2, 2]},
    ],
    ids=str,
)  # fmt: skip
def test_what_outlines_nothing_has_no_box(segmentation):
    assert box_of(segmentation) is None


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.data())
def test_the_box_of_run_lengths_holds_their_pixels(height, width, data):
    pixels = np.array(data.draw(st.lists(st.booleans(), min_size=height * width, max_size=height * width)))
    pixels = pixels.reshape(height, width)
    flat = pixels.flatten(order="F")
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flat, [flat[-1]]]).astype(int)))
    counts = np.diff([0, *edges.tolist(), len(flat)]).tolist()
    compressed = mask.encode(np.asfortranarray(pixels, np.uint8))["counts"].decode()
    rows, columns = np.nonzero(pixels)
    expected = None
    if len(rows):
        expected = (columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1)
    for runs in (counts, compressed):
        assert box_of({"size": [height, width], "counts": runs}) == expected
