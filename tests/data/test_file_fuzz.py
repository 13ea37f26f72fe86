"""Whatever stands in label files and images ends in a count or in one line: never in an error of Python's."""

import io

import numpy as np
import pytest
from data.test_voc import save as save_voc
from data.test_voc import scene, thing
from data.test_yolo import YAML
from data.test_yolo import save as save_yolo
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from vitjax.data.decode import decode, read_size
from vitjax.errors import VitjaxError

ODD = st.sampled_from(["nan", "inf", "-1", "1e400", "1e-400", "0x1", "٣", "1_0", "\0", "\ufeff", "", " ", "9" * 400])
WORDS = ODD | st.floats().map(str) | st.integers().map(str) | st.text(max_size=4)
LINES = st.lists(st.lists(WORDS, max_size=9).map(" ".join), max_size=4).map("\n".join)
QUIET = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


def edited(text):
    """The text with a piece of it replaced, left out or doubled."""

    def edit(given):
        begin, length, put = given
        return text[:begin] + put + text[begin + length :]

    place = st.tuples(st.integers(0, len(text)), st.integers(0, 30), WORDS | st.just(text[: len(text) // 2]))
    return place.map(edit)


def is_told(folder):
    """Whether the data are opened and read, or refused, in lines that can be printed."""
    try:
        source = folder.open("train")
        told = [*source.problems, *source.classes.names]
        assert all(np.isfinite(source[record].boxes).all() for record in range(len(source)))
    except VitjaxError as error:
        told = [str(error)]
    return all(line.encode() is not None for line in told)


VOC = scene(thing(), thing("clot", (1, 1, 40, 30)))
KINDS = {
    "labels": (LINES, lambda root, text: save_yolo(root, {"a": text, "b": "0 0.5 0.5 0.2 0.2"})),
    "yaml": (edited(YAML), lambda root, text: save_yolo(root, {"a": "0 0.5 0.5 0.2 0.2"}, yaml=text)),
    "xml": (edited(VOC), lambda root, text: save_voc(root, {"a": text, "b": VOC})),
}


def is_any_text_told(root, kind, data):
    texts, save = KINDS[kind]
    text = data.draw(texts).encode(errors="replace").decode()
    return is_told(save(root / kind, text))


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=20, deadline=None, derandomize=True, suppress_health_check=QUIET)
@given(data=st.data())
def test_any_text_is_counted_or_one_line(tmp_path, kind, data):
    assert is_any_text_told(tmp_path, kind, data)


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=1_500, deadline=None, suppress_health_check=QUIET)
@given(data=st.data())
def test_many_texts_are_counted_or_one_line(tmp_path, kind, data):
    assert is_any_text_told(tmp_path, kind, data)


def encoded(form):
    file = io.BytesIO()
    Image.fromarray(np.arange(300, dtype=np.uint8).reshape(10, 10, 3) * 3).save(file, form)
    return file.getvalue()


FORMS = {form: encoded(form) for form in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP")}
EDITS = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=6)


def is_any_image_told(form, edits, share):
    image = bytearray(FORMS[form])
    for place, byte in edits:
        image[int(place * (len(image) - 1))] = byte
    data = bytes(image[: int(share * len(image))])
    for read in (lambda: decode(data, "x", limit=10_000), lambda: read_size(io.BytesIO(data), "x", 10_000)):
        try:
            found = read()
        except VitjaxError as error:
            assert "x" in str(error)
        else:
            assert isinstance(found, tuple) or (found.dtype == np.uint8 and found.shape[2] == 3)
    return True


@settings(max_examples=120, deadline=None, derandomize=True)
@given(form=st.sampled_from(list(FORMS)), edits=EDITS, share=st.floats(0, 1) | st.just(1.0))
def test_any_bytes_of_an_image_are_pixels_or_one_line(form, edits, share):
    assert is_any_image_told(form, edits, share)


@pytest.mark.long
@settings(max_examples=20_000, deadline=None)
@given(form=st.sampled_from(list(FORMS)), edits=EDITS, share=st.floats(0, 1) | st.just(1.0))
def test_many_bytes_of_images_are_pixels_or_one_line(form, edits, share):
    assert is_any_image_told(form, edits, share)
