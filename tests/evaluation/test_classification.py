"""Scores of classifiers against hand-computed ones, what the table shows, and images without label or pixels."""

import dataclasses
import json
import math

import numpy as np
import pytest

from vitjax.data.source import Classes, labelled
from vitjax.evaluation.classification import evaluate, score_classes
from vitjax.prediction import Answer, Recognition, names_of

ANIMALS = Classes(("ant", "bee", "cat", "dog", "eel", "fox"), (0, 1, 2, 3, 4, 5))


@dataclasses.dataclass
class Pictures:
    """As much of a source as an evaluation looks at."""

    classes: Classes = ANIMALS
    image_ids: tuple = tuple(f"{number}.jpg" for number in range(20))
    max_objects: int = 1
    problems: tuple[str, ...] = ()

    def __len__(self):
        return len(self.image_ids)

    def __getitem__(self, record):
        return labelled(np.zeros((2, 2, 3), np.uint8), 0)

    def name(self, record):
        return f"folder/{record}"


def found(record, truth, *labels):
    scores = 0.5 ** np.arange(1, 1 + len(labels), dtype=np.float32)
    told = Recognition(names_of(ANIMALS, labels), scores, np.array(labels, np.int32))
    return Answer(record, labels_of(truth), told)


def unreadable(record, truth=-1):
    return Answer(record, labels_of(truth), None)


def labels_of(truth):
    return np.array([] if truth < 0 else [truth], np.int32)


SEEN = [
    found(0, 0, 0, 1, 2, 3, 4),
    found(1, 0, 1, 0, 2, 3, 4),
    found(2, 0, 1, 2, 3, 4, 0),
    found(3, 2, 1, 2, 3, 4, 0),
    found(4, 3, 0, 1, 2, 4, 5),
    found(5, 3, 3, 1, 2, 4, 5),
    found(6, -1, 5, 1, 2, 4, 3),
    unreadable(7),
    found(8, 3, 700, 3, 2, 4, 5),
    unreadable(9, truth=2),
]


def test_top1_and_top5_are_shares_of_all_labelled_images():
    scores = score_classes(SEEN, ANIMALS)
    assert scores.images == 9
    assert scores.summary == {"top1": pytest.approx(2 / 9), "top5": pytest.approx(6 / 9)}


def test_every_class_has_the_share_of_its_own_images():
    rows = score_classes(SEEN, ANIMALS).per_class
    assert [(row.name, row.images) for row in rows] == list(zip(ANIMALS.names, (3, 0, 2, 3, 0, 0), strict=True))
    assert [row.top1 for row in rows if row.images] == pytest.approx([1 / 3, 0, 1 / 3])
    assert all(math.isnan(row.top1) for row in rows if not row.images)


def test_the_worst_confusions_come_first():
    assert score_classes(SEEN, ANIMALS).confusions == (
        ("ant", "bee", 2),
        ("cat", "bee", 1),
        ("dog", "ant", 1),
        ("dog", "700", 1),
    )


def test_a_small_table_shows_every_class():
    assert score_classes(SEEN, ANIMALS).table().splitlines() == [
        "class  images  top1 %  top5 %",
        "ant         3   33.33",
        "bee         0       -",
        "cat         2    0.00",
        "dog         3   33.33",
        "eel         0       -",
        "fox         0       -",
        "all         9   22.22   66.67",
        "",
        "most often confused (truth -> found), images",
        "ant -> bee  2",
        "cat -> bee  1",
        "dog -> ant  1",
        "dog -> 700  1",
    ]


def test_a_large_table_shows_the_ten_least_accurate_classes_that_have_images():
    classes = Classes(tuple(f"class {label}" for label in range(31)), tuple(range(31)))
    right = [found(label, label, label, 0, 1, 2, 3) for label in range(1, 31)]
    wrong = [found(label, label, 0, label, 1, 2, 3) for label in range(30, 18, -1) for _ in range(label)]
    lines = score_classes(right + wrong, classes).table().splitlines()
    assert lines[0].startswith("class (10 least accurate of 31)  images")
    assert [line.split()[1] for line in lines[1:11]] == [str(label) for label in range(30, 20, -1)]
    assert lines[11].split() == ["all", "324", "9.26", "100.00"]
    assert len(lines[14:]) == 5


def test_without_mistakes_the_table_ends_with_all():
    table = score_classes([found(0, 1, 1, 0)], Classes(("no", "yes"), (0, 1))).table()
    assert table.splitlines()[-1].split() == ["all", "1", "100.00", "100.00"]


def test_without_images_shares_are_nan_and_unread_ones_are_missed():
    nothing = score_classes([], ANIMALS)
    assert math.isnan(nothing.summary["top1"]) and math.isnan(nothing.summary["top5"])
    assert nothing.table().splitlines()[-1].split() == ["all", "0", "-", "-"]
    assert score_classes([unreadable(0)], ANIMALS).summary == {"top1": 0, "top5": 0}


def test_top5_is_unknown_where_fewer_classes_were_kept_and_one_where_there_are_fewer():
    assert math.isnan(score_classes([found(0, 3, 0, 1, 2)], ANIMALS).summary["top5"])
    assert score_classes([found(0, 2, 0, 1, 2)], Classes(("a", "b", "c"), (0, 1, 2))).summary["top5"] == 1


def test_a_class_in_the_sixth_place_is_not_among_the_five_best():
    fifth, sixth = (score_classes([found(0, label, 0, 1, 2, 3, 4, 5)], ANIMALS).summary for label in (4, 5))
    assert (fifth, sixth) == ({"top1": 0, "top5": 1}, {"top1": 0, "top5": 0})


def test_results_are_json_with_names_and_the_unreadable_are_listed():
    evaluation = evaluate(iter(SEEN), Pictures())
    assert evaluation.unreadable == ("folder/7", "folder/9")
    results = json.loads(json.dumps(evaluation.results))
    assert [result["image"] for result in results] == [f"{record}.jpg" for record in (0, 1, 2, 3, 4, 5, 6, 8)]
    assert [result["label"] for result in results] == ["ant", "ant", "ant", "cat", "dog", "dog", None, "dog"]
    assert results[-1]["classes"][:2] == [{"name": "700", "score": 0.5}, {"name": "dog", "score": 0.25}]
    assert evaluation.scores.table() == score_classes(SEEN, ANIMALS).table()


def test_numbers_of_images_are_plain_numbers_in_the_results():
    evaluation = evaluate([found(1, 0, 1)], Pictures(image_ids=np.array([10, 11])))
    assert json.dumps(evaluation.results[0]).startswith('{"image": 11, "label": "ant", "classes": [{"name": "bee"')
