"""Large-scale jitter and mosaic: boxes where the eye finds them, and sizes known beforehand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from painted import Few, box_of, painted, pixels_of

from vitjax.data.augmentation_parts import LargeScaleJitter, Mosaic, ScaleJitter
from vitjax.data.canvas import draw_tiles, fit_to_canvas
from vitjax.data.finishing import FinishedCut
from vitjax.data.transforms import Augmentation, draw

SEEDS = st.integers(0, 2**31)
SIDES = st.integers(30, 90)
PLAIN = {"flip": 0.5, "vertical_flip": 0.5, "turn": 0.5, "sizes": (60,), "max_side": 90, "crop": 0.0}


def scene(rng, height, width, label=0):
    """A rectangle of at least 10 pixels somewhere in an image."""
    (top, bottom), (left, right) = (np.sort(rng.choice(side // 10, 2, replace=False)) * 10 for side in (height, width))
    return painted((height, width), (left, top, right, bottom), label, mapped=True)


def require_found(after, before, geometry):
    """The box of a sample is where its colour is; there is none only where at most a fifth of it is seen."""
    label = before.labels[0]
    seen, boxes = pixels_of(after.image, label), after.boxes[after.labels == label]
    assert (boxes >= 0).all() and (boxes <= np.array(after.image.shape[1::-1] * 2) + 1e-3).all()
    assert (seen == (after.label_map == label)).mean() > 0.93
    if len(boxes):
        np.testing.assert_allclose(boxes[0], box_of(seen), atol=1.5)
    else:
        scale = np.prod(geometry.resized) / np.prod(geometry.source)
        assert seen.sum() <= 0.2 * scale * np.prod(before.boxes[0, 2:] - before.boxes[0, :2]) + 30


@settings(deadline=None, max_examples=30)
@given(SIDES, SIDES, SEEDS, st.sampled_from([None, 50]), st.booleans())
def test_boxes_are_where_they_are_seen_after_scale_jitters(height, width, seed, size, large):
    parts = {"large_scale_jitter": LargeScaleJitter(float(large), (0.5, 2.0), size), "scale_jitter": ScaleJitter(1.0)}
    augmentation = Augmentation(**PLAIN, **parts, least_visible=0.2)
    sample = scene(np.random.default_rng(seed), height, width)
    geometries = draw(augmentation, np.random.default_rng(seed), np.tile(np.array([[height, width]], np.int32), (4, 1)))
    for geometry in (geometries[i] for i in range(4)):
        after = geometry.apply(sample)
        assert after.image.shape[:2] == geometry.output == ((50, 50) if large and size else geometry.output)
        require_found(after, sample, geometry)


@settings(deadline=None, max_examples=25)
@given(st.lists(st.tuples(SIDES, SIDES), min_size=4, max_size=4), SIDES, SIDES, SEEDS)
def test_boxes_are_where_they_are_seen_in_a_mosaic(sizes, height, width, seed):
    rng = np.random.default_rng(seed)
    augmentation = Augmentation(**PLAIN, mosaic=Mosaic(1.0, (0.5, 1.2)), least_visible=0.2)
    samples = [scene(rng, *size, label) for label, size in enumerate(sizes)]
    tiles = draw_tiles(augmentation, rng, np.array(sizes), (height, width))
    cut = FinishedCut(tiles[0], tuple((label, tiles[label]) for label in (1, 2, 3)), augmentation, None, (0, 0, 0))
    after, broken = cut.finish(cut.apply(samples[0], "a"), Few(samples))
    assert after.image.shape == (height, width, 3) and broken is None
    for sample, tile in zip(samples, (tiles[i] for i in range(4)), strict=True):
        require_found(after, sample, tile)


def test_with_factor_1_an_image_just_fits_and_twice_as_large_it_is_cropped_to_the_canvas():
    sizes, canvas = np.array([[40, 60]] * 2), np.array([[60, 60]] * 2)
    resized, crop, place = fit_to_canvas(sizes, canvas, np.array([1.0, 2.0]), np.full((2, 2), 0.999))
    assert resized.tolist() == [[40, 60], [80, 120]] and crop.tolist() == [[0, 0, 40, 60], [20, 60, 60, 60]]
    assert place.tolist() == [[20, 0], [0, 0]]


def test_every_place_of_crop_and_canvas_is_reached_and_none_beyond():
    numbers = np.random.default_rng(0).random((500, 2))
    sizes, canvas = np.full((500, 2), 4), np.full((500, 2), 6)
    assert np.unique(fit_to_canvas(sizes, canvas, np.full(500, 4 / 6), numbers)[2]).tolist() == [0, 1, 2]
    assert np.unique(fit_to_canvas(sizes, canvas, np.full(500, 8 / 6), numbers)[1][:, :2]).tolist() == [0, 1, 2]


@pytest.mark.parametrize("canvas", [(1, 1), (1, 9), (2, 2)])
def test_the_smallest_canvas_has_a_mosaic(canvas):
    augmentation = Augmentation(mosaic=Mosaic(1.0))
    sizes = np.array([[30, 1], [1, 30], [9, 9], [30, 30]])
    tiles = draw_tiles(augmentation, np.random.default_rng(0), sizes, canvas)
    samples = [painted(tuple(size), (0, 0, size[1], size[0])) for size in sizes]
    cut = FinishedCut(tiles[0], tuple((label, tiles[label]) for label in (1, 2, 3)), augmentation, None, (0, 0, 0))
    assert cut.finish(cut.apply(samples[0], "a"), Few(samples))[0].image.shape[:2] == canvas
