"""What queries find, and layers and heads by number."""

import types

import numpy as np
import pytest

from vitjax.data.source import Classes
from vitjax.errors import FieldError
from vitjax.explain.question import Queries, Question
from vitjax.explain.seen_image import SeenImage
from vitjax.explain.subject import OfQueries

IMAGE = SeenImage(np.zeros((8, 8, 3), np.uint8), (20, 40), np.array([0.0, 0.0, 40.0, 20.0]), (8, 8))
BOXES = np.array([[0.5, 0.5, 1, 1], [0.25, 0.5, 0.5, 0.2], [0.5, 0.5, 0.5, 0.5]], np.float32)
# Of three queries the second says 'no object' where the last class is that.
SHARES = np.array([[0.25, 0.5, 0.25], [0.25, 0.125, 0.625], [0.5, 0.25, 0.25]])
LOGITS = {"softmax": np.log(SHARES), "sigmoid": np.log(SHARES / (1 - SHARES))}


def queries(scores):
    model, classes = types.SimpleNamespace(scores=scores), Classes(("cat", "dog", "hat"), (1, 2, 3))
    return Queries.of(types.SimpleNamespace(model=model, classes=classes), IMAGE, LOGITS[scores], BOXES)


def test_a_query_finds_its_best_class_and_no_object_is_none():
    found = queries("softmax")
    assert found.names == ("dog", "cat", "cat")
    np.testing.assert_allclose(found.scores, [0.5, 0.25, 0.5], rtol=1e-6)
    np.testing.assert_allclose(found.boxes[1], [0, 8, 20, 12], atol=1e-5)


def test_where_classes_are_independent_the_last_is_one_of_them():
    found = queries("sigmoid")
    assert found.names == ("dog", "hat", "cat")
    np.testing.assert_allclose(found.scores, [0.5, 0.625, 0.5], rtol=1e-6)
    assert found.number(None) == 1 and found.number(2) == 2


def test_queries_that_reach_the_threshold_come_best_first_and_of_equal_ones_the_first():
    found = Queries(np.array([0.5, 0.25, 0.75, 0.5]), ("a", "b", "c", "d"), np.zeros((4, 4)))
    assert found.ranked(0.5) == [2, 0, 3] and found.ranked(0.0) == [2, 0, 3, 1] and found.ranked(0.8) == []


@pytest.mark.parametrize("query", [-1, 3])
def test_a_query_that_there_is_not_is_refused(query):
    with pytest.raises(FieldError, match=f"query is 0 to 2 in this decoder; got {query}"):
        queries("softmax").number(query)


def test_layers_count_from_either_end_and_are_told_from_the_front():
    asked = Question("query 1", np.zeros(4))
    assert [asked.within("decoder", 3, layer).layer for layer in (0, 2, -1, -3)] == [0, 2, 2, 0]
    assert asked.within("decoder", 3, -1).place == "decoder layer 2 (the last of 3)"
    assert asked.within("stage 1", 3, 1, unit="block").place == "stage 1, block 1 (of 3)"
    for layer, layers, words in ((3, 3, "0 to 2, or -3 to -1 from the end"), (1, 1, "0, or -1 from the end")):
        with pytest.raises(FieldError, match=f"layer is {words}, in the decoder; got {layer}"):
            asked.within("decoder", layers, layer)
    with pytest.raises(FieldError, match="layer is what this model has none of in the decoder; got 0"):
        asked.within("decoder", 0, 0)


def test_a_query_is_shown_with_its_own_mask_where_only_some_have_one():
    masks = OfQueries(np.arange(2)[:, None, None] == np.ones((2, 4, 4), int), {2: 1, 0: 0})
    asked = [Queries(np.ones(3), ("cat",) * 3, BOXES, masks).asked(query).mask for query in range(3)]
    assert not asked[0].any() and asked[1] is None and asked[2].all()
