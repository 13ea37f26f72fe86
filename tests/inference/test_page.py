"""Which images of a source a page shows, and in which order."""

import types

import numpy as np
import pytest
from inference.test_sweep import Coloured
from PIL import Image

from vitjax.inference.page import draw_page
from vitjax.inference.task import Page
from vitjax.prediction import Answer


class Sweeping:
    """Answers for the last image first, and not for those that cannot be read."""

    def __init__(self, **layout):
        self.shown = []
        self.task = types.SimpleNamespace(
            about=types.SimpleNamespace(page=Page(columns=2, tile=40, **layout)), page_picture=self.picture
        )

    def __call__(self, variables, source, *, batch_size):
        for record in reversed(range(len(source))):
            broken = source.records[record] in source.source.broken
            yield Answer(record, np.zeros(0, np.int32), None if broken else variables["answer"])

    def picture(self, answer, sample, classes, name):
        self.shown.append((name, answer.prediction))
        return sample.image, name


@pytest.mark.parametrize(
    ("layout", "shown"),
    [
        ({"images": 3}, ["1.png", "2.png"]),
        ({"images": 3, "spread": True}, ["4.png", "8.png"]),
        ({"images": 1, "spread": False}, []),
        ({"images": 99}, [f"{record}.png" for record in range(1, 9)]),
        ({"images": 99, "spread": True}, [f"{record}.png" for record in range(1, 9)]),
    ],
)
def test_the_first_images_are_shown_or_some_from_all_over_the_source_without_those_that_are_broken(
    layout, shown, tmp_path
):
    sweep, page = Sweeping(**layout), tmp_path / "report" / "page.png"
    draw_page(sweep, {"answer": "seen"}, Coloured(records=9, broken=(0,)), page, batch_size=2)
    assert sweep.shown == [(name, "seen") for name in shown]
    assert page.is_file() == bool(shown)
    if shown:  # in two columns of 8 pixels, with as many around them
        assert Image.open(page).width == 40


def test_nothing_is_written_of_an_empty_source(tmp_path):
    draw_page(Sweeping(images=3, spread=True), {}, Coloured(records=0), tmp_path / "page.png", batch_size=2)
    assert not (tmp_path / "page.png").exists()
