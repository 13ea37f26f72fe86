"""Colour jitter against Pillow, and the hue against what a turn must keep."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

from vitjax.data.augmentation_parts import ColorJitter
from vitjax.data.recolor import recolored


@pytest.mark.parametrize(
    ("enhance", "number"), [(ImageEnhance.Brightness, 0), (ImageEnhance.Contrast, 1), (ImageEnhance.Color, 2)]
)
@pytest.mark.parametrize("factor", [0.4, 0.9, 1.0, 1.5])
def test_colours_change_as_pillow_changes_them(enhance, number, factor):
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    numbers = np.full(4, 0.5)
    numbers[number] = factor / 2  # from 0 to twice as much
    ours = recolored(image, ColorJitter(1.0, 1.0, 1.0, 1.0), numbers)
    theirs = np.asarray(enhance(Image.fromarray(image)).enhance(factor))
    assert np.abs(ours.astype(int) - theirs).max() <= 2


@settings(deadline=None, max_examples=15)
@given(st.floats(0, 1), st.integers(0, 255))
def test_the_hue_turns_around_grey(turn, level):
    numbers = np.array([0.5, 0.5, 0.5, turn])
    grey = np.full((3, 4, 3), level, np.uint8)
    assert np.abs(recolored(grey, ColorJitter(hue=0.5), numbers).astype(int) - level).max() <= 1
    image = np.random.default_rng(level).integers(100, 156, (5, 6, 3), dtype=np.uint8)  # of which nothing is cut off
    there = recolored(image, ColorJitter(hue=0.5), numbers)
    back = recolored(there, ColorJitter(hue=0.5), 1 - numbers)
    assert np.abs(back.astype(int) - image).max() <= 3


def test_a_third_of_a_turn_takes_red_towards_another_primary_colour():
    red = np.full((2, 2, 3), (200, 60, 60), np.uint8)
    turned = {
        int(recolored(red, ColorJitter(hue=1 / 3), np.array([0.5, 0.5, 0.5, end]))[0, 0].argmax()) for end in (0, 1)
    }
    assert turned == {1, 2}
