import numpy as np

from vitjax.drawing.boxes import label_color
from vitjax.drawing.masks import draw_masks, draw_segments
from vitjax.segmentation.panoptic import Panoptic, Segment

GREY = np.full((6, 8, 3), 100, np.uint8)


def test_masks_are_translucent_with_a_rim_and_the_first_lies_on_top():
    square, whole = np.zeros((6, 8), bool), np.ones((6, 8), bool)
    square[1:4, 1:4] = True
    drawn = draw_masks(GREY, [square, whole], ["cat", "dog"], names=("cat", "dog"))
    cat, dog = (np.array(label_color(name, ("cat", "dog"))) for name in ("cat", "dog"))
    under = np.round(0.55 * 100 + 0.45 * dog)
    np.testing.assert_array_equal(drawn[5, 7], under)  # the border of the picture is no rim
    np.testing.assert_array_equal(drawn[1, 1], cat)
    np.testing.assert_array_equal(drawn[2, 2], np.round(0.55 * under + 0.45 * cat))
    assert (GREY == 100).all()


def test_segments_have_the_colours_of_their_labels():
    ids = np.repeat([[0, 0, 0, 0, 1, 1, 1, 1]], 6, axis=0)
    segments = (Segment(0, True, 1, 24), Segment(1, False, 0, 24))
    drawn = draw_segments(GREY, Panoptic(ids, segments), ("sky", "cat"))
    np.testing.assert_array_equal(drawn[2, 3], label_color("cat", ("sky", "cat")))
    np.testing.assert_array_equal(drawn[2, 4], label_color("sky", ("sky", "cat")))
