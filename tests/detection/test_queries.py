import pytest

from vitjax.detection.queries import note_on_queries, queries_for


def test_the_user_is_told_of_more_objects_than_queries_and_only_then():
    assert note_on_queries(100, 100) is None
    assert "100 queries and the data up to 101 objects" in note_on_queries(100, 101)


@pytest.mark.parametrize(("objects", "queries"), [(0, 60), (8, 60), (9, 80), (28, 200), (500, 300)])
def test_there_are_several_queries_for_each_object_within_bounds(objects, queries):
    assert queries_for(objects) == queries
