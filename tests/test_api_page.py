"""The snippets of docs/api.md run as they stand, one after the other."""

import re
from pathlib import Path

import numpy as np
import pytest

PAGE = Path(__file__).resolve().parent.parent / "docs" / "api.md"


def snippets():
    return re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def left():
    """The names that all snippets leave."""
    names = {"__name__": "__main__"}
    for number, snippet in enumerate(snippets(), start=1):
        exec(compile(snippet, f"docs/api.md, snippet {number}", "exec", dont_inherit=True), names)
    return names


def test_a_detector_that_is_called_with_three_arrays_gives_boxes_in_pixels(left):
    assert left["found"].boxes.shape == (2, 5, 4) and np.ptp(left["found"].boxes) > 50


def test_the_loop_learns_with_a_backbone_a_source_and_a_loss_of_ones_own(left):
    history = left["history"]
    assert len(history) == 40 and np.mean(history[-5:]) < 0.85 * np.mean(history[:5])


def test_the_loop_has_at_most_thirty_lines():
    (loop,) = [snippet for snippet in snippets() if "def step(" in snippet]
    assert len([line for line in loop.splitlines() if line.strip()]) <= 30


def test_the_source_is_one_that_can_be_scored(left):
    source = left["source"]
    for record, truth in enumerate(source.ground_truth()["annotations"]):
        x, y, width, height = truth["bbox"]
        image = source[record].image
        assert image[int(y) : int(y + height), int(x) : int(x + width)].all() and image.sum() == 3 * 255 * 144


def test_the_config_is_made_of_them(left):
    experiment = left["experiment"]()
    assert experiment.loss.share == 0.05 and len(experiment.data.open("val")) == 64
    assert type(experiment.model.backbone) is left["Strided"]
