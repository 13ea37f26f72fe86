import pytest

from vitjax.data.errors import DataError
from vitjax.data.source import Classes


def test_the_same_classes_are_accepted():
    Classes(("a", "b"), (1, 2)).require(Classes(("a", "b"), (1, 2)), "val.json")


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (Classes(("a", "b", "c"), (1, 2, 3)), "{3: 'c'} more, none missing"),
        (Classes(("a",), (1,)), "none more, {2: 'b'} missing"),
        (Classes(("b", "a"), (2, 1)), "none more, none missing"),
    ],
    ids=["more", "fewer", "another order"],
)
def test_other_classes_are_refused_by_name(found, words):
    with pytest.raises(DataError, match=r"val\.json has other categories") as caught:
        Classes(("a", "b"), (1, 2)).require(found, "val.json")
    assert words in str(caught.value)
