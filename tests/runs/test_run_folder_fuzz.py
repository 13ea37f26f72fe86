"""Whatever stands in a run's experiment.json ends in an experiment or in one line: never in an error of Python's."""

import copy
import json

import pytest
from data.test_coco_fuzz import VALUES, places
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vitjax.data.source import Classes
from vitjax.errors import VitjaxError
from vitjax.runs.run_folder import read_run, read_stored, write_run
from vitjax.tasks.detection import Detection

QUIET = [HealthCheck.function_scoped_fixture]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    write_run(folder, Detection(), Classes(("cat", "dog"), (3, 5)))
    return folder, json.loads((folder / "experiment.json").read_text())


def changed(document, path, value):
    """The document with a value at a path."""
    if not path:
        return value
    node = document = copy.deepcopy(document)
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    return document


def is_told_in_text(folder, text):
    (folder / "experiment.json").write_text(text, encoding="utf-8", errors="surrogatepass")
    for read in (read_run, read_stored):
        try:
            read(folder)
        except VitjaxError as error:
            assert str(error).encode()
    return True


def is_any_value_told(run, data):
    folder, document = run
    path = data.draw(st.sampled_from(list(places(document))))
    return is_told_in_text(folder, json.dumps(changed(document, path, data.draw(VALUES))))


@settings(max_examples=15, deadline=None, derandomize=True, suppress_health_check=QUIET)
@given(data=st.data())
def test_any_value_anywhere_is_taken_or_one_line(run, data):
    assert is_any_value_told(run, data)


@pytest.mark.long
@settings(max_examples=3_000, deadline=None, suppress_health_check=QUIET)
@given(data=st.data())
def test_many_values_anywhere_are_taken_or_one_line(run, data):
    assert is_any_value_told(run, data)


STRANGE = [{"names": ["a"], "category_ids": ids, "stuff": stuff} for ids, stuff in [([1], 3), ([1], None), (["1"], [])]]


@pytest.mark.parametrize("part", [None, 5, [], "ab", *STRANGE], ids=str)
def test_classes_that_are_none_are_one_line(run, part):
    folder, document = run
    (folder / "experiment.json").write_text(json.dumps({**document, "classes": part}))
    with pytest.raises(VitjaxError, match="cannot be read"):
        read_run(folder)
