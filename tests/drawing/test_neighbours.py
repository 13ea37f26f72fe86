"""Colours of things on a picture: neighbours differ, whatever the scene; labels keep their own where they can."""

import itertools

import numpy as np
import pytest

from vitjax.drawing.boxes import label_color
from vitjax.drawing.neighbours import APART, _distance, colors_apart, neighbours, topmost

NAMES = tuple(map(str, range(140)))


def regions(rng, count):
    """The nearest of some points at every pixel: as many regions, of which some pixels are nobody's."""
    height, width = rng.integers(20, 60, 2)
    points = rng.uniform(0, 1, (count, 2)) * (height, width)
    rows, columns = np.mgrid[:height, :width]
    owner = ((rows[..., None] - points[:, 0]) ** 2 + (columns[..., None] - points[:, 1]) ** 2).argmin(-1)
    return np.where(rng.uniform(size=owner.shape) < 0.05, -1, owner)


def touching(owner):
    """Pairs of regions with pixels that share a side or a corner, pixel by pixel."""
    found = set()
    for row, column in np.ndindex(*owner.shape):
        for down, across in itertools.product((-1, 0, 1), repeat=2):
            other = row + down, column + across
            if 0 <= other[0] < owner.shape[0] and 0 <= other[1] < owner.shape[1]:
                found.add((int(owner[row, column]), int(owner[other])))
    return {(one, other) for one, other in found if -1 < one != other > -1}


@pytest.mark.parametrize("seed", range(12))
def test_whatever_touches_has_colours_far_apart(seed):
    rng = np.random.default_rng(seed)
    count, classes = int(rng.integers(2, 20)), int(rng.integers(1, 140))
    owner, labels = regions(rng, count), [NAMES[label] for label in rng.integers(0, classes, count)]
    pairs = touching(owner)
    colors = colors_apart([owner == place for place in range(count)], labels, NAMES)
    assert pairs and pairs <= set(zip(*np.nonzero(neighbours(owner, count)), strict=True))
    assert min(_distance(colors[one], colors[other]) for one, other in pairs) >= APART


def test_among_more_neighbours_than_there_are_distinct_colours_each_is_still_different():
    owner = np.tile(np.arange(240) // 3, (9, 1))  # columns, all of which touch the last mask
    masks = [*(owner == place for place in range(0, 80, 2)), np.isin(owner, range(1, 80, 2))]
    colors = colors_apart(masks, ["a"] * len(masks))
    assert colors[-1] not in colors[:-1] and len(set(colors[:-1])) == 1  # the others do not touch
    everyone = np.ones((40, 40), bool) & ~np.eye(40, dtype=bool)
    crowd = [np.zeros((1, 2 * 780), bool) for _ in range(40)]
    for place, (one, other) in enumerate(itertools.combinations(range(40), 2)):
        crowd[one][0, 2 * place] = crowd[other][0, 2 * place + 1] = True
    assert (neighbours(topmost(crowd), 40) == everyone).all()
    assert len(set(colors_apart(crowd, ["a"] * 40))) == 40


def test_those_that_are_alone_have_the_colour_of_their_label_and_the_first_of_two_keeps_it():
    masks = np.zeros((3, 10, 300), bool)
    masks[0, :, :20], masks[1, :, 21:40], masks[2, :, 200:] = True, True, True
    first, second, far = colors_apart(masks, ["3", "3", "3"], NAMES)
    assert first == far == label_color("3", NAMES) and second != first  # a gap of one pixel of 300 is none


def test_what_another_covers_has_no_neighbours_and_no_masks_no_colours():
    inner = np.zeros((6, 6), bool)
    inner[2:4, 2:4] = True
    assert topmost([np.ones((6, 6), bool), inner]).max() == 0
    assert len(set(colors_apart([inner, np.ones((6, 6), bool)], ["a", "a"]))) == 2
    assert len(set(colors_apart([np.ones((6, 6), bool), inner], ["a", "a"]))) == 1
    assert colors_apart([], []) == []
