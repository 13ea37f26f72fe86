"""How images are prepared, read and written."""

import json

import pytest

from vitjax.data.errors import DataError
from vitjax.data.transforms import Resize
from vitjax.families.huggingface.processor import processor_of, resize_of


@pytest.mark.parametrize("resize", [Resize(), Resize(480, 640), Resize(600, None), Resize(None)])
def test_a_resize_comes_back(resize):
    assert resize_of(json.loads(json.dumps(processor_of(resize, "Detr")))) == (resize, ())


def test_old_and_other_sizes_are_understood():
    assert resize_of({"size": 480, "max_size": 600}) == (Resize(480, 600), ())
    assert resize_of({"size": 480}) == (Resize(480, 1333), ())
    assert resize_of({}) == (Resize(), ())
    resize, notes = resize_of({"size": {"height": 640, "width": 480}})
    assert resize == Resize(480, 640) and "here images keep their shape" in notes[0]


@pytest.mark.parametrize(
    ("processor", "message"),
    [
        ({"image_mean": [0.5, 0.5, 0.5]}, r"image_mean=\[0.5, 0.5, 0.5\]"),
        ({"do_normalize": False}, "do_normalize=False"),
        ({"size": {"side": 3}}, "shortest_edge and longest_edge"),
    ],
)
def test_other_preparation_is_refused(processor, message):
    with pytest.raises(DataError, match=message):
        resize_of(processor)
