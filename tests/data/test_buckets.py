"""The ladder of buckets: small, tight, and holding whatever can be drawn."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitjax.data.augmentation_parts import LargeScaleJitter, Mosaic, ScaleJitter
from vitjax.data.buckets import fit_ladder, smallest_holding, training_ladder
from vitjax.data.transforms import Augmentation, draw

SIZES = st.lists(st.tuples(st.integers(8, 900), st.integers(8, 900)), min_size=1, max_size=12)
RANGES = st.tuples(st.integers(1, 300), st.integers(1, 300)).map(lambda pair: (min(pair), max(pair)))
AUGMENTATIONS = st.fixed_dictionaries(
    {
        "sizes": st.lists(st.integers(10, 300), max_size=3).map(tuple),
        "max_side": st.one_of(st.none(), st.integers(10, 500)),
        "crop": st.sampled_from([0.0, 0.5, 1.0]),
        "crop_sizes": st.lists(st.integers(10, 300), max_size=2).map(tuple),
        "crop_range": RANGES,
    }
)
CHANCES = st.sampled_from([0.0, 0.5, 1.0])
FACTORS = st.sampled_from([(0.1, 2.0), (0.3, 0.5), (1.5, 3.0)])
CANVASES = st.one_of(st.none(), st.integers(1, 400))
FURTHER = st.fixed_dictionaries(
    {
        "sizes": st.sampled_from([(), (40, 90)]),
        "crop": CHANCES,
        "crop_range": st.just((30, 70)),
        "turn": CHANCES,
        "scale_jitter": st.builds(ScaleJitter, CHANCES, FACTORS),
        "large_scale_jitter": st.builds(LargeScaleJitter, CHANCES, FACTORS, CANVASES),
        "mosaic": st.builds(Mosaic, CHANCES, size=CANVASES),
    }
)


@settings(deadline=None, max_examples=12)
@given(SIZES, FURTHER, st.integers(0, 2**31))
def test_the_ladder_holds_every_turned_image_and_every_canvas(sizes, fields, seed):
    sizes, augmentation = np.array(sizes, np.int32), Augmentation(**fields)
    ladder = training_ladder(sizes, augmentation, multiple=32, max_buckets=3)
    outputs = draw(augmentation, np.random.default_rng(seed), np.tile(sizes, (40, 1))).output
    assert (outputs <= ladder[smallest_holding(outputs, ladder)]).all() and outputs.min() >= 1
    if augmentation.mosaic.probability == 1 and augmentation.mosaic.size:
        assert (outputs == augmentation.mosaic.size).all() and len(ladder) == 1


@settings(deadline=None, max_examples=60)
@given(SIZES, AUGMENTATIONS, st.sampled_from([1, 32, 64]), st.integers(1, 12), st.integers(0, 2**31))
def test_the_ladder_holds_everything_that_can_be_drawn(sizes, fields, multiple, max_buckets, seed):
    sizes, augmentation = np.array(sizes, np.int32), Augmentation(**fields)
    ladder = training_ladder(sizes, augmentation, multiple=multiple, max_buckets=max_buckets)
    outputs = draw(augmentation, np.random.default_rng(seed), np.tile(sizes, (40, 1))).output
    held = ladder[smallest_holding(outputs, ladder)]
    assert (outputs <= held).all() and (ladder % multiple == 0).all() and len(ladder) <= max_buckets
    assert (np.diff(ladder.prod(1)) >= 0).all()


def test_images_of_one_size_have_one_bucket_without_padding():
    sizes = np.full((50, 2), 64, np.int32)
    plain = Augmentation(flip=0.5, sizes=(), crop=0.0)
    assert training_ladder(sizes, plain, multiple=32, max_buckets=12).tolist() == [[64, 64]]


@pytest.mark.parametrize(
    "part", [{"mosaic": Mosaic(1e-9, size=200)}, {"large_scale_jitter": LargeScaleJitter(1e-9, size=200)}]
)
def test_a_canvas_that_is_hardly_ever_drawn_has_a_bucket(part):
    plain = Augmentation(sizes=(), crop=0.0, **part)
    ladder = training_ladder(np.full((50, 2), 64, np.int32), plain, multiple=32, max_buckets=12)
    assert ladder.tolist() == [[64, 64], [224, 224]]


def test_sides_are_rounded_up_to_the_multiple():
    assert fit_ladder(np.array([[33, 65]]), np.array([33, 65]), multiple=32, max_buckets=4).tolist() == [[64, 96]]


def test_two_shapes_get_a_bucket_each_below_the_one_that_holds_both():
    outputs = np.array([[64, 128]] * 5 + [[128, 64]] * 5)
    ladder = fit_ladder(outputs, outputs.max(0), multiple=32, max_buckets=12)
    assert sorted(ladder.tolist()) == [[64, 128], [128, 64], [128, 128]]


def test_more_buckets_never_pad_more():
    outputs = np.random.default_rng(0).integers(30, 300, (1000, 2))
    padded = []
    for count in (1, 2, 4, 8):
        ladder = fit_ladder(outputs, outputs.max(0), multiple=8, max_buckets=count)
        padded.append(ladder[smallest_holding(outputs, ladder)].prod(1).sum())
    assert padded == sorted(padded, reverse=True) and padded[-1] < 0.7 * padded[0]


def test_each_image_goes_to_the_smallest_bucket_that_holds_it():
    ladder = np.array([[32, 64], [64, 32], [64, 64]])
    assert smallest_holding(np.array([[20, 60], [60, 20], [33, 33], [1, 1]]), ladder).tolist() == [0, 1, 2, 0]


def test_a_size_beyond_every_bucket_is_an_error_that_names_it():
    with pytest.raises(ValueError, match="100x20 pixels fits into no bucket"):
        smallest_holding(np.array([[10, 10], [20, 100]]), np.array([[64, 64]]))
