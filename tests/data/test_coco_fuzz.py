"""Whatever stands in a COCO file ends in a count or in one line: never in an error of Python's."""

import copy
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from vitjax.data.coco import CocoFolder
from vitjax.errors import VitjaxError

BOX = {"bbox": [1, 1, 3, 3], "area": 9, "iscrowd": 0, "segmentation": [[1, 1, 4, 1, 4, 4]]}
DOCUMENT = {
    "images": [{"id": number, "file_name": f"{number}.png", "height": 8, "width": 8} for number in (1, 2)],
    "annotations": [{"id": number, "image_id": number, "category_id": number, **BOX} for number in (1, 2)],
    "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
}
LEAVES = st.one_of(
    st.sampled_from([1e300, -1e300, 10**400, "\ud800", "a\ud800.png", "", "x" * 5000, "../1.png", "/dev/zero", "\0"]),
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
)
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner))


def places(node, path=()):
    """The paths of all values in a document."""
    yield path
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        yield from places(value, (*path, key))


def put(path, value):
    """The document with a value at a path."""
    if not path:
        return value
    document = copy.deepcopy(DOCUMENT)
    *way, last = path
    node = document
    for key in way:
        node = node[key]
    node[last] = value
    return document


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("coco")
    (root / "train").mkdir()
    for number in (1, 2):
        Image.new("RGB", (8, 8)).save(root / "train" / f"{number}.png")
    return root


def is_told_in_text(root, document):
    (root / "train.json").write_text(json.dumps(document))
    try:
        source = CocoFolder(str(root)).open("train")
        told = [*source.problems, *source.classes.names, *map(source.name, range(len(source)))]
        assert all(len(source[record].boxes) <= source.max_objects for record in range(len(source)))
        json.dumps(source.ground_truth(), allow_nan=False)
    except VitjaxError as error:
        told = [str(error)]
    return all(line == line.encode().decode() for line in told)


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(path=st.sampled_from(list(places(DOCUMENT))), value=VALUES)
def test_any_value_anywhere_is_counted_or_one_line(root, path, value):
    assert is_told_in_text(root, put(path, value))


@pytest.mark.long
@settings(max_examples=2_000, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(path=st.sampled_from(list(places(DOCUMENT))), value=VALUES)
def test_many_values_anywhere_are_counted_or_one_line(root, path, value):
    assert is_told_in_text(root, put(path, value))
