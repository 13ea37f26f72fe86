import types

import numpy as np

from vitjax.data.digit_images import DigitImages
from vitjax.data.errors import DataError
from vitjax.prediction import Answer
from vitjax.training.pictures import Shown

TRUTH = np.zeros(1, int)


def shown(answers, count=3, fault=None):
    """The sheet of answers for the digits, of which the pictures are blots of so many grey levels as their record."""

    def page_picture(answer, sample, classes, name):
        if fault:
            raise fault
        return np.full((300, 400, 3), answer.record % 256, np.uint8), name

    task = types.SimpleNamespace(about=types.SimpleNamespace(page=types.SimpleNamespace(tile=None)))
    task.page_picture = page_picture
    source = DigitImages().open("val")
    noted = Shown(task, source, count)
    assert list(noted.noting(answers)) == answers
    return noted.sheet(), len(source)


def test_pictures_are_from_all_over_the_source_and_small():
    answers = [Answer(record, TRUTH, "found") for record in reversed(range(360))]
    sheet, count = shown(answers)
    assert count == 360 and sheet.dtype == np.uint8 and max(sheet.shape) < 900
    greys, counts = np.unique(sheet, return_counts=True)
    assert {0, 179} <= set(greys[counts > 50_000])  # and 359, which is 103 in eight bits


def test_there_is_no_sheet_where_nothing_is_asked_for_or_can_be_read():
    answers = [Answer(record, TRUTH, None) for record in range(360)]
    assert shown(answers)[0] is None and shown([])[0] is None
    found = [Answer(0, TRUTH, "found")]
    assert shown(found, count=0)[0] is None and shown(found, fault=DataError("gone"))[0] is None
