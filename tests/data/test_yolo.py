import pickle

import numpy as np
import pytest
from PIL import Image

from vitjax.data.errors import DataError
from vitjax.data.yolo import YoloFolder
from vitjax.data.yolo_set import yolo_splits

BOMB = "".join(
    f"{key}: &{key} [{', '.join([f'*{before}'] * 9)}]\n" for before, key in zip("abcdefgh", "bcdefghi", strict=True)
)
BOMB = f"a: &a [x]\n{BOMB}train: images\nval: *i\nnames: *i\npath: *i\n"
YAML = "train: images/train\nval: images/val\nnames: [cell, clot]\n"


def save(root, labels, yaml=YAML, images="images/train", beside="labels/train", size=(40, 20)):
    """Images by name, red as many as they come, with the text of their labels; None is no file."""
    (root / images).mkdir(parents=True, exist_ok=True)
    (root / beside).mkdir(parents=True, exist_ok=True)
    for count, (name, text) in enumerate(labels.items()):
        Image.new("RGB", size, (count, 0, 0)).save(root / images / f"{name}.png")
        if text is not None:
            (root / beside / f"{name}.txt").write_text(text)
    if yaml is not None:
        (root / "data.yaml").write_text(yaml)
    return YoloFolder(str(root))


def test_a_line_is_a_class_and_a_box_in_shares_of_the_image(tmp_path):
    source = save(tmp_path, {"a": "1 0.5 0.5 0.25 0.5\n0 0.125 0.25 0.25 0.5\n", "b": ""}).open("train")
    assert source.problems == () and source.classes.names == ("cell", "clot") and source.classes.category_ids == (0, 1)
    sample = pickle.loads(pickle.dumps(source))[0]
    assert sample.boxes.tolist() == [[15, 5, 25, 15], [0, 0, 10, 10]] and sample.labels.tolist() == [1, 0]
    assert source.sizes.tolist() == [[20, 40]] * 2 and source.name(0) == "images/train/a.png"
    assert source[1].boxes.shape == (0, 4)
    assert [row["area"] for row in source.ground_truth()["annotations"]] == [100, 100]


@pytest.mark.parametrize(
    ("line", "box"),
    [
        ("0 0.25 0.5 0.5 0.25 0.75 1", [10, 5, 30, 20]),
        ("0 0.1 0.1 0.2 0.1 0.2 0.5 0.1 0.5", [4, 2, 8, 10]),
        ("0.0 0.5 0.5 0.25 0.5", [15, 5, 25, 15]),
        ("\ufeff0   0.5\t0.5 0.25 0.5\r", [15, 5, 25, 15]),
    ],
)
def test_polygons_give_their_box(tmp_path, line, box):
    source = save(tmp_path, {"a": line}).open("train")
    assert source.problems == () and np.allclose(source[0].boxes, [box])


def test_keypoints_behind_a_box_are_no_polygon(tmp_path):
    source = save(tmp_path, {"a": "0 0.5 0.5 0.25 0.5 0.1 0.1 2"}, yaml=YAML + "kpt_shape: [1, 3]\n").open("train")
    assert source[0].boxes.tolist() == [[15, 5, 25, 15]]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("0 0.5 0.5 0.25", "no class with a box or polygon: 1 (first: '0 0.5 0.5 0.25' in "),
        ("0 0.5 0.5 0.25 0.5 0.9", "no class with a box or polygon: 1"),
        ("cell 0.5 0.5 0.25 0.5", "no class with a box or polygon: 1"),
        ("0,0.5,0.5,0.25,0.5", "no class with a box or polygon: 1"),
        ("-1 0.5 0.5 0.25 0.5", "no class with a box or polygon: 1"),
        ("0 0.5 nan 0.25 0.5", "no class with a box or polygon: 1"),
        ("2 0.5 0.5 0.25 0.5", "unknown category: 1"),
        ("0 0.5 0.5 0 0.5", "cover nothing of their image: 1"),
    ],
)
def test_a_line_that_makes_no_sense_is_skipped_and_counted(tmp_path, line, words):
    source = save(tmp_path, {"a": f"{line}\n0 0.5 0.5 0.25 0.5"}).open("train")
    assert source[0].boxes.tolist() == [[15, 5, 25, 15]]
    (said,) = source.problems
    assert said.startswith("data.yaml: ") and words in said


@pytest.mark.parametrize(
    ("yaml", "images", "labels"),
    [
        ("train: ../train/images\nnames: {0: cell, 1: clot}\n", "train/images", "train/labels"),
        ("path: /home/me/set\ntrain: images/train\nnames: [cell, clot]\n", "images/train", "labels/train"),
        ("train: /home/me/set/images/train\nnames: [cell, clot]\n", "images/train", "labels/train"),
        ("path: inner\ntrain: [images]\nnames:\n  - cell\n  - clot\n", "inner/images", "inner/labels"),
        ("train: train\nnames: [cell, clot]\n", "train", "train"),
        ("train: images\nnames: [cell, clot]\n", "images/images", "images/labels"),
        ("train: train.txt\nnames: [cell, clot]\n", "images/train", "labels/train"),
        (None, "images/train", "labels/train"),
        (None, "train/images", "train/labels"),
        (None, "images", "labels"),
        (None, "obj_train_data", "obj_train_data"),
    ],
)
def test_the_usual_layouts_are_found(tmp_path, yaml, images, labels):
    source = save(tmp_path, {"a": "1 0.5 0.5 0.25 0.5"}, yaml, images, labels)
    (tmp_path / "classes.txt").write_text("cell\nclot\n")
    if yaml is None and images != "obj_train_data":
        (tmp_path / labels / "classes.txt").write_text("of a tool\n")
    if images == "obj_train_data" or (yaml and "train.txt" in yaml):
        (tmp_path / "train.txt").write_text(f"data/{images}/a.png\n")
    assert yolo_splits(tmp_path) == ("train",)
    opened = source.open("train")
    assert opened.classes.names == ("cell", "clot") and opened[0].boxes.tolist() == [[15, 5, 25, 15]]
    assert YoloFolder(str(tmp_path / "data.yaml") if yaml else str(tmp_path)).open("train").names == opened.names


def test_names_are_text_whatever_yaml_makes_of_them(tmp_path):
    source = save(tmp_path, {"a": "0 0.5 0.5 0.5 0.5"}, "train: images/train\nnames: [no, 1, 1e3, null]\n").open(
        "train"
    )
    assert source.classes.names == ("no", "1", "1e3", "null")
    source = save(tmp_path, {"a": "5 0.5 0.5 0.5 0.5"}, "train: images/train\nnames: {5: x, 2: y}\n").open("train")
    assert (
        source.classes.names == ("y", "x")
        and source.classes.category_ids == (2, 5)
        and source[0].labels.tolist() == [1]
    )
    source = save(tmp_path, {"a": "1 0.5 0.5 0.5 0.5"}, "train: images/train\nnc: 2\n").open("train")
    assert source.classes.names == ("class 0", "class 1")


def test_images_are_turned_upright_as_their_labels_are_drawn(tmp_path):
    source = save(tmp_path, {"a": "0 0.25 0.5 0.5 1"})
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 20)).save(tmp_path / "images/train/a.png", exif=exif)
    opened = source.open("train")
    assert opened.sizes.tolist() == [[40, 20]] and opened[0].image.shape == (40, 20, 3)
    assert opened[0].boxes.tolist() == [[0, 0, 10, 40]]


def test_images_without_a_label_file_are_counted_and_broken_ones_left_out(tmp_path):
    source = save(tmp_path, {"a": "0 0.5 0.5 0.5 0.5", "b": None, "c": "0 0.5 0.5 0.5 0.5"})
    (tmp_path / "images/train/c.png").write_text("<html>")
    opened = source.open("train")
    assert opened.names == ("images/train/a.png", "images/train/b.png")
    bare, broken = opened.problems
    assert "without a label file as images without objects: 1" in bare and "b.png" in bare
    assert "cannot be read: 1" in broken and "c.png is no image" in broken


@pytest.mark.parametrize(
    ("labels", "yaml", "words"),
    [
        ({"a": None}, YAML, r"no image of the split 'train' .* has a label file: looked for a\.txt"),
        (
            {"a": "0 20 10 10 10"},
            YAML,
            "labels seem to be in pixels: 100% have .*first: 0 20 10 10 10",
        ),
        ({"a": "0 0.5 0.5 0.5 0.5"}, "train: nowhere\nnames: [a]\n", "has train: nowhere, which is not there"),
        ({"a": None}, f"path: {'8' * 300}\ntrain: {'9' * 300}\nnames: [a]\n", "has train: 9+, which is not there"),
        ({"a": "0 0.5 0.5 0.5 0.5"}, "val: images\nnames: [a]\n", "no split 'train'; there are: val"),
        ({"a": "0 0.5 0.5 0.5 0.5"}, "train: images\nnames: 7\n", "neither a list of names nor numbers with names"),
        ({"a": "0 0.5 0.5 0.5 0.5"}, "train: images\nnc: 99999999999\n", "neither a list of names"),
        ({"a": "0 0.5 0.5 0.5 0.5"}, BOMB, "neither a list of names"),
        ({}, YAML, "has no images"),
        ({"a": "9 0.5 0.5 0.5 0.5"}, YAML, "no annotation that can be trained on.*unknown category: 1"),
    ],
)
def test_what_cannot_be_trained_on_is_an_error_with_its_cause(tmp_path, labels, yaml, words):
    with pytest.raises(DataError, match=words):
        save(tmp_path, labels, yaml).open("train")


@pytest.mark.parametrize(
    ("written", "words"),
    [
        (lambda x, y, w, h: (x, y, x + w, y + h), r"\[x1, y1, x2, y2\]: read as they should be, 67% reach out"),
        (lambda x, y, w, h: (x, y, w, h), r"\[left, top, width, height\]: read as they should be, 33% reach out"),
    ],
)
def test_boxes_of_another_kind_of_shares_are_an_error(tmp_path, written, words):
    boxes = [(0.1 * n, 0.1 * n, 0.3, 0.4) for n in range(6)]
    right = "\n".join(f"0 {x + w / 2} {y + h / 2} {w} {h}" for x, y, w, h in boxes)
    assert len(save(tmp_path, {"a": right}).open("train")[0].boxes) == 6
    wrong = "\n".join(f"0 {' '.join(map(str, written(*box)))}" for box in boxes)
    with pytest.raises(DataError, match=f"labels seem to be {words}"):
        save(tmp_path, {"a": wrong}).open("train")


@pytest.mark.parametrize(
    ("text", "words"), [("names: [a, b\n", "not valid YAML"), ("a: 1", "is no data.yaml"), ("", "is no data.yaml")]
)
def test_a_yaml_that_is_none_is_named(tmp_path, text, words):
    (tmp_path / "data.yaml").write_text(text)
    with pytest.raises(DataError, match=words):
        YoloFolder(str(tmp_path / "data.yaml")).open("train")


def test_a_broken_yaml_is_told_as_such_and_other_files_are_none(tmp_path):
    (tmp_path / "data.yaml").write_text("names: [a, b")
    assert yolo_splits(tmp_path) == ("train",)
    with pytest.raises(DataError, match=r"data\.yaml is not valid YAML"):
        YoloFolder(str(tmp_path)).open("train")
    (tmp_path / "a.jpg").write_bytes(bytes(9))
    assert yolo_splits(tmp_path / "a.jpg") == ()
    with pytest.raises(DataError, match=r"a\.jpg is neither a folder nor a yaml"):
        YoloFolder(str(tmp_path / "a.jpg")).open("train")


@pytest.mark.parametrize(("root", "words"), [("", "no data folder is given"), ("nowhere", "nowhere does not exist")])
def test_a_missing_folder_is_named(root, words):
    with pytest.raises(DataError, match=words + r".*--data\.root"):
        YoloFolder(root).open("train")


def test_a_folder_without_labels_or_names_is_none(tmp_path):
    assert yolo_splits(tmp_path) == ()
    with pytest.raises(DataError, match=r"neither a data\.yaml nor images/ and labels/"):
        YoloFolder(str(tmp_path)).open("train")
    save(tmp_path, {"a": "0 0.5 0.5 0.5 0.5"}, None)
    with pytest.raises(DataError, match="says nowhere what its classes are called"):
        YoloFolder(str(tmp_path)).open("train")


def test_another_number_of_classes_than_names_is_said(tmp_path):
    source = save(tmp_path, {"a": "1 0.5 0.5 0.25 0.5"}, YAML + "nc: 5\n").open("train")
    assert "nc has another number: 1 (first: nc 5, names 2)" in source.problems[0]
    assert save(tmp_path, {"a": "1 0.5 0.5 0.25 0.5"}, YAML + "nc: 2\n").open("train").problems == ()


@pytest.mark.parametrize("yaml", ["nc: NUMBER\n", "names: {? NUMBER : cell}\n"])
def test_numbers_of_thousands_of_digits_are_none(tmp_path, yaml):
    folder = save(tmp_path, {"a": "0 0.5 0.5 0.25 0.5"}, yaml.replace("NUMBER", "7" * 5000) + "train: images/train\n")
    with pytest.raises(DataError, match="neither a list of names nor numbers"):
        folder.open("train")


def test_a_whole_disk_is_no_folder_of_images(tmp_path):
    folder = save(tmp_path, {"a": "0 0.5 0.5 0.25 0.5"}, "path: /\ntrain: /\nval: /\nnames: [cell]\n")
    with pytest.raises(DataError, match="has train: /, which is the whole disk"):
        folder.open("train")
