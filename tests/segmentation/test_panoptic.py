import numpy as np
import pytest

from vitjax.segmentation.mask_postprocess import TopMasks
from vitjax.segmentation.masks import Masks
from vitjax.segmentation.panoptic import panoptic

THING, STUFF = 3, 150


def found(masks, labels, scores=None, size=(8, 8), **options):
    logits = np.array([np.where(mask, 20, -20) for mask in masks], np.float32).reshape(-1, 8, 8)
    scores = np.full(len(labels), 0.9, np.float32) if scores is None else np.array(scores, np.float32)
    masks = Masks(logits, (8, 8), size)
    return panoptic(scores, np.array(labels, np.int32), masks, is_thing=lambda label: label <= 90, **options)


def columns(first, last):
    mask = np.zeros((8, 8), bool)
    mask[:, first:last] = True
    return mask


def test_things_stay_apart_and_stuff_of_one_class_is_joined_to_its_first_segment():
    masks = [columns(0, 2), columns(2, 4), columns(4, 6), columns(6, 8)]
    one = found(masks, [THING, THING, STUFF, STUFF + 1], size=(16, 8))
    assert [tuple(segment) for segment in one.segments] == [
        (0, True, THING, 32), (1, True, THING, 32), (2, False, STUFF, 32), (3, False, STUFF + 1, 32),
    ]  # fmt: skip
    np.testing.assert_array_equal(one.ids[0], [0, 0, 1, 1, 2, 2, 3, 3])


def test_what_is_left_without_pixels_goes_and_stuff_is_then_not_joined_as_published():
    first, second, whole = columns(0, 4), columns(4, 8), columns(0, 8)
    one = found([first, second], [STUFF, STUFF])
    # Joined, the second has no pixels of its own, is taken away, and its pixels go to the first.
    assert [tuple(segment) for segment in one.segments] == [(0, False, STUFF, 64)]
    tiny = np.zeros((8, 8), bool)
    tiny[0, :4] = True
    two = found([first, tiny, second, whole & ~whole], [THING, THING, THING, THING])
    assert [segment.area for segment in two.segments] == [32, 32]


def test_pixels_that_no_mask_claims_are_nobodys_or_as_published_somebodys():
    masks, labels = [columns(0, 3), columns(5, 8)], [THING, STUFF]
    assert [segment.area for segment in found(masks, labels).segments] == [40, 24]
    one = found(masks, labels, claim=0.5, size=(16, 8))
    assert [segment.area for segment in one.segments] == [48, 48]
    np.testing.assert_array_equal(one.ids[0], [0, 0, 0, -1, -1, 1, 1, 1])


def test_with_a_claim_the_same_stuff_is_one_from_the_beginning():
    masks, labels = [columns(0, 2), columns(2, 5), columns(6, 8), columns(2, 4)], [STUFF, THING, STUFF, THING]
    one = found(masks, labels, claim=0.5)
    assert [tuple(segment) for segment in one.segments] == [(0, False, STUFF, 32), (1, True, THING, 24)]
    np.testing.assert_array_equal(one.ids[0], [0, 0, 1, 1, 1, -1, 0, 0])


def test_a_segment_that_claims_too_few_pixels_goes():
    tiny = np.zeros((8, 8), bool)
    tiny[0, :4] = True
    one = found([tiny, columns(4, 6)], [THING, THING], claim=0.5)
    assert [segment.area for segment in one.segments] == [16]
    assert (one.ids == -1).sum() == 48
    none = found([tiny], [THING], claim=0.5)
    assert none.segments == () and not none.ids.any()


@pytest.mark.parametrize("claim", [-0.1, 1.0])
def test_a_claim_that_is_no_probability_is_refused(claim):
    with pytest.raises(ValueError, match=f"panoptic_claim is a probability from 0 to below 1; got {claim}"):
        TopMasks(panoptic_claim=claim)


def test_nothing_above_the_threshold_is_an_empty_map():
    one = found([columns(0, 8)], [THING], scores=[0.85])
    assert one.segments == () and one.ids.shape == (8, 8) and not one.ids.any()


def test_a_threshold_at_which_no_object_may_be_better_is_refused():
    with pytest.raises(ValueError, match=r"0\.5 or more; got 0\.4"):
        panoptic(np.ones(1), np.ones(1, int), Masks(np.ones((1, 1, 1)), (1, 1), (1, 1)), is_thing=bool, threshold=0.4)
