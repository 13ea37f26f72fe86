import numpy as np
import pytest

from vitjax.data.source import NO_LABEL, Classes
from vitjax.drawing.boxes import label_color
from vitjax.drawing.label_maps import draw_label_map, label_picture, legend, with_legend
from vitjax.prediction import labelling

NAMES = ("background", "cat", "")
LABELS = np.array([[0, 1, 1, NO_LABEL], [2, 1, 0, 0]], np.uint8).repeat(40, 0).repeat(80, 1)
IMAGE = np.full((80, 320, 3), 100, np.uint8)


def test_classes_are_coloured_and_background_and_what_has_no_label_are_left():
    picture = draw_label_map(IMAGE, LABELS, NAMES)
    assert picture.shape == IMAGE.shape
    same = (picture == IMAGE).all(-1)
    assert np.array_equal(same, np.isin(LABELS, [0, NO_LABEL]))
    wanted = 0.4 * 100 + 0.6 * np.array(label_color("cat", NAMES))
    assert np.abs(picture[LABELS == 1] - wanted).max() <= 1


def test_the_pixels_of_a_label_picture_are_the_labels(tmp_path):
    label_picture(LABELS, NAMES).save(tmp_path / "labels.png")
    from PIL import Image

    again = Image.open(tmp_path / "labels.png")
    assert again.mode == "P" and np.array_equal(np.asarray(again), LABELS)
    assert again.convert("RGB").getpixel((100, 0)) == label_color("cat", NAMES)


def test_a_legend_has_the_classes_that_are_there_the_largest_first():
    told = labelling(LABELS, Classes(NAMES, (0, 1, 2)))
    assert told.labels == (0, 1, 2, NO_LABEL) and told.shares == (3 / 8, 3 / 8, 1 / 8, 1 / 8)
    entries = legend(told, NAMES)
    assert list(entries) == ["cat", "2"]
    picture = with_legend(IMAGE, entries)
    assert picture.shape[0] > IMAGE.shape[0] and np.array_equal(picture[: len(IMAGE)], IMAGE)
    assert (picture[len(IMAGE) :] == entries["cat"]).all(-1).any()
    assert with_legend(IMAGE, {}) is IMAGE


def test_a_legend_that_is_too_wide_goes_on_in_another_row():
    entries = {f"a long name {i}": (i, 0, 0) for i in range(6)}
    one, all_ = (with_legend(IMAGE, dict(list(entries.items())[:count])) for count in (1, 6))
    assert all_.shape[0] - 80 >= 3 * (one.shape[0] - 80)


def test_a_map_of_another_size_is_refused():
    with pytest.raises(ValueError, match=r"got \(2, 2\) on \(80, 320, 3\)"):
        draw_label_map(IMAGE, LABELS[:2, :2], NAMES)
