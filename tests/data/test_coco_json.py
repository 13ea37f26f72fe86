import json
from pathlib import Path

import pytest

from vitjax.data.coco_json import (
    LEFT_OUT,
    ListedImage,
    image_ids,
    read_annotations,
    read_classes,
    read_images,
    read_instances,
)
from vitjax.data.errors import DataError, Tally

PATH = Path("instances.json")
BOX = {"image_id": 1, "category_id": 2, "bbox": [1, 2, 3, 4], "id": 5, "area": 12, "iscrowd": 0}


def annotations(*entries):
    tally = Tally()
    table = read_annotations(list(entries), {1: 0, 4: LEFT_OUT, "word": 1}, {2: 0, 3: 1}, tally)
    return table, " ".join(tally.lines("f"))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"{ 'images': }", "not valid JSON: Expecting property name"),
        (b"", "not valid JSON"),
        (b"\xff\xd8\xff\xe0 a jpeg", "not valid JSON"),
        (b"[" * 100_000, "not valid JSON"),
        (b"[1, 2]", "holds a JSON list, not an object"),
        (b'{"images": [], "categories": []}', "no list 'annotations': it has ['categories', 'images']"),
        (b'{"images": [], "categories": []}', "a list of images without their annotations"),
        (b'[{"image_id": 1, "category_id": 1, "bbox": [], "score": 1}]', "It looks like COCO results"),
        (b'{"shapes": [], "imagePath": "a.jpg"}', "It looks like a labelme file"),
        (b'{"images": [], "annotations": []}', "It looks like captions"),
        (b'{"images": {}, "annotations": [], "categories": []}', "no list 'images': 'images' is a dict"),
    ],
    ids=[
        "syntax",
        "empty",
        "binary",
        "deep",
        "list",
        "lacks a key",
        "test images",
        "results",
        "labelme",
        "captions",
        "wrong type",
    ],
)
def test_a_file_that_is_no_instances_file_is_named_with_the_reason(tmp_path, content, words):
    path = tmp_path / "broken.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"broken\.json .* Export the data again") as caught:
        read_instances(path)
    assert words in str(caught.value)


def test_a_file_that_cannot_be_opened_is_named(tmp_path):
    with pytest.raises(DataError, match="cannot be read: Is a directory"):
        read_instances(tmp_path)


def test_a_byte_order_mark_does_no_harm(tmp_path):
    path = tmp_path / "a.json"
    document = {"images": [], "annotations": [], "categories": []}
    path.write_text(json.dumps(document), encoding="utf-8-sig")
    assert read_instances(path) == document


def test_category_ids_with_gaps_become_contiguous_labels_in_the_order_of_the_ids():
    entries = [{"id": 7, "name": "c"}, {"id": 1, "name": "a"}, {"id": 3, "name": "b"}]
    classes, label_of = read_classes(entries, "contiguous", PATH, Tally())
    assert classes.names == ("a", "b", "c") and classes.category_ids == (1, 3, 7)
    assert label_of == {1: 0, 3: 1, 7: 2}


def test_category_ids_can_be_the_labels_and_gaps_have_no_name():
    entries = [{"id": 3, "name": "b"}, {"id": 1, "name": "a"}]
    classes, label_of = read_classes(entries, "category_id", PATH, Tally())
    assert classes.names == ("", "a", "", "b") and classes.category_ids == (0, 1, 2, 3)
    assert label_of == {1: 1, 3: 3}


@pytest.mark.parametrize("number", [-1, 10_000_000])
def test_category_ids_that_cannot_be_labels_are_refused(number):
    with pytest.raises(DataError, match='use labels="contiguous"'):
        read_classes([{"id": 1, "name": "a"}, {"id": number, "name": "b"}], "category_id", PATH, Tally())


def test_categories_without_id_or_with_a_taken_one_are_counted():
    tally = Tally()
    entries = [{"id": 1, "name": "a"}, {"name": "b"}, "c", {"id": 1, "name": "d"}, {"id": "cat"}]
    classes, _ = read_classes(entries, "contiguous", PATH, tally)
    assert classes.names == ("a", "category cat") and classes.category_ids == (1, 2)
    assert [line.split(" (")[0] for line in tally.lines("f")] == [
        "f: skipped categories without an id: 2",
        "f: skipped categories whose id is taken: 1",
        "f: numbered category ids that are words: 1",
    ]


def test_no_category_is_an_error():
    with pytest.raises(DataError, match=r"instances\.json lists no categories"):
        read_classes([{"name": "a"}], "contiguous", PATH, Tally())


def test_images_that_make_no_sense_are_skipped_and_counted():
    tally = Tally()
    entries = [
        {"id": 1, "file_name": "a.jpg", "height": 3, "width": 4},
        {"id": 2, "file_name": "b.jpg"},
        {"id": 3, "file_name": "c.jpg", "height": "tall", "width": -1},
        {"id": 1, "file_name": "a.jpg"},
        {"id": 9},
        {"file_name": "d.jpg"},
        "e.jpg",
    ]
    images = read_images(entries, tally)
    assert images == [ListedImage(1, "a.jpg", (3, 4)), ListedImage(2, "b.jpg", None), ListedImage(3, "c.jpg", None)]
    assert [line.split(" (")[0] for line in tally.lines("f")] == [
        "f: skipped images that are listed twice: 1",
        "f: skipped images without an id or a file_name: 3",
    ]


def test_files_that_share_an_id_are_all_left_out():
    tally = Tally()
    entries = [{"id": 1, "file_name": name} for name in ("a.jpg", "b.jpg", "c.jpg")] + [{"id": 2, "file_name": "d.jpg"}]
    assert [image.file_name for image in read_images(entries, tally)] == ["d.jpg"]
    assert tally.lines("f") == (
        "f: left out images that share their id with another file: 3 (first: id 1: ['a.jpg', 'b.jpg'])",
    )


def test_ids_that_are_words_become_free_numbers():
    tally = Tally()
    entries = [{"id": name, "file_name": "a.jpg"} for name in ("7", "left", 3.0, "right")]
    assert image_ids(read_images(entries, tally), tally) == (7, 8, 3, 9)
    assert tally.lines("f") == ("f: numbered image ids that are words: 2 (first: 'left' became 8)",)


def test_an_annotation_becomes_a_row():
    table, said = annotations(BOX, BOX | {"id": 6, "image_id": "word", "category_id": "3", "iscrowd": 1})
    assert said == ""
    assert table.records.tolist() == [0, 1] and table.labels.tolist() == [0, 1]
    assert table.boxes.tolist() == [[1, 2, 4, 6]] * 2
    assert table.areas.tolist() == [12, 12] and table.crowds.tolist() == [False, True]


def test_missing_area_and_iscrowd_are_filled_in_later_and_now():
    table, said = annotations({key: BOX[key] for key in ("image_id", "category_id", "bbox", "id")})
    assert said == ""
    assert table.areas[0] != table.areas[0] and not table.crowds[0]


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (BOX | {"image_id": 99}, "unknown image: 1 (first: annotation 5 of image_id 99)"),
        (BOX | {"category_id": 99}, "unknown category: 1 (first: annotation 5 of category_id 99)"),
        (BOX | {"image_id": 4}, "images that were left out: 1"),
        (BOX | {"image_id": None}, "unknown image: 1"),
        (BOX | {"bbox": [1, 2, 3]}, "four numbers as bbox: 1"),
        (BOX | {"bbox": [1, 2, 3, "wide"]}, "four numbers as bbox: 1"),
        (BOX | {"bbox": None}, "four numbers as bbox: 1"),
        ({"id": 1}, "four numbers as bbox: 1"),
        ("a box", "four numbers as bbox: 1"),
        (None, "four numbers as bbox: 1"),
    ],
    ids=str,
)
def test_an_annotation_that_makes_no_sense_is_skipped_and_counted(entry, words):
    table, said = annotations(entry)
    assert len(table.records) == 0 and table.boxes.shape == (0, 4)
    assert "skipped annotations" in said and words in said


def test_annotation_ids_that_pycocotools_goes_wrong_over_are_counted():
    table, said = annotations(BOX, BOX, BOX | {"id": 0}, {key: BOX[key] for key in ("image_id", "category_id", "bbox")})
    assert len(table.records) == 4
    assert "whose id is missing, 0 or taken: 3 (first: id 5 of image_id 1)" in said
