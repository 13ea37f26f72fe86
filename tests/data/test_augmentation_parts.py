"""What cannot be is refused in one sentence that names the field."""

import pytest

from vitjax.data.augmentation_parts import ColorJitter, Cutout, LargeScaleJitter, Mosaic, ScaleJitter
from vitjax.data.transforms import Augmentation
from vitjax.errors import FieldError


@pytest.mark.parametrize("part", [ScaleJitter, LargeScaleJitter, Mosaic, ColorJitter, Cutout])
@pytest.mark.parametrize("value", [-0.1, 1.5, float("nan")])
def test_a_probability_is_from_0_to_1(part, value):
    with pytest.raises(FieldError, match=rf"{part.__name__}\.probability .* \[0, 1\], got {value}"):
        part(value)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ScaleJitter(1.0, (0.0, 1.0)), r"ScaleJitter.factors .* \(0.0, 1.0\)"),
        (lambda: LargeScaleJitter(1.0, (2.0, 1.0)), r"LargeScaleJitter.factors .* \(2.0, 1.0\)"),
        (lambda: LargeScaleJitter(1.0, (0.1, 1e9)), r"LargeScaleJitter.factors .* in \(0, 10\]"),
        (lambda: LargeScaleJitter(size=0), "LargeScaleJitter.size .* got 0"),
        (lambda: Mosaic(size=-3), "Mosaic.size .* got -3"),
        (lambda: Mosaic(center=(0.0, 0.5)), r"Mosaic.center .* \(0.0, 0.5\)"),
        (lambda: ColorJitter(hue=0.7), r"ColorJitter.hue is in \[0, 0.5\], got 0.7"),
        (lambda: ColorJitter(contrast=-1.0), "ColorJitter.contrast .* got -1.0"),
        (lambda: Cutout(holes=0), "Cutout.holes .* got 0"),
        (lambda: Cutout(sides=(0.2, 1.1)), r"Cutout.sides .* \(0.2, 1.1\)"),
        (lambda: Augmentation(turn=2.0), "Augmentation.turn .* got 2.0"),
        (lambda: Augmentation(vertical_flip=-1.0), "Augmentation.vertical_flip .* got -1.0"),
        (lambda: Augmentation(least_visible=1.1), "Augmentation.least_visible .* got 1.1"),
    ],
)
def test_what_cannot_be_is_refused(make, message):
    with pytest.raises(FieldError, match=message):
        make()
