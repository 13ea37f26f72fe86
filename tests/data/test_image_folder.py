import os
import pickle

import numpy as np
import pytest
from PIL import Image

from vitjax.data.errors import DataError
from vitjax.data.image_folder import ImageFolder


def put(root, *names, size=(40, 30)):
    """Writes an image for every name, the first with red 0, the second with red 1, and so on."""
    for number, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, (number, 0, 0)).save(path, "PNG")
    return ImageFolder(str(root))


def pets(root, split="train"):
    return put(root, f"{split}/dog/1.jpg", f"{split}/cat/2.JPEG", f"{split}/cat/1.png")


def test_a_record_is_an_image_with_the_label_of_its_folder(tmp_path):
    source = pickle.loads(pickle.dumps(pets(tmp_path).open("train")))
    assert source.classes.names == ("cat", "dog") and source.classes.category_ids == (0, 1)
    assert source.image_ids == ("cat/1.png", "cat/2.JPEG", "dog/1.jpg") and source.name(2) == "dog/1.jpg"
    assert len(source) == 3 and source.max_objects == 1 and source.problems == ()
    assert source.labels.dtype == np.int32 and source.labels.tolist() == [0, 0, 1]
    sample = source[1]
    assert sample.image.shape == (30, 40, 3) and sample.image[0, 0].tolist() == [1, 0, 0]
    assert sample.labels.tolist() == [0] and sample.boxes.tolist() == [[0, 0, 40, 30]]


def test_images_may_lie_in_folders_within_that_of_their_class(tmp_path):
    source = put(tmp_path, "train/cat/2024/b.png", "train/cat/c.png", "train/cat/2024/may/a.png", "train/dog/a.png")
    names = ("cat/2024/b.png", "cat/2024/may/a.png", "cat/c.png", "dog/a.png")
    assert source.open("train").names == names


@pytest.mark.parametrize("folder", ["val", "valid", "validation"])
@pytest.mark.parametrize("split", ["val", "valid", "validation"])
def test_the_names_of_the_validation_split_mean_the_same(tmp_path, folder, split):
    pets(tmp_path)
    assert pets(tmp_path, folder).open(split).folder == tmp_path / folder


def test_the_name_asked_for_comes_before_its_aliases(tmp_path):
    pets(tmp_path, "val")
    assert pets(tmp_path, "valid").open("valid").folder == tmp_path / "valid"


def test_all_splits_have_the_same_classes_and_those_not_trained_on_come_last(tmp_path):
    pets(tmp_path)
    data = put(tmp_path, "val/dog/1.jpg", "val/ape/1.jpg", "test/bee/1.jpg", "test/dog/1.jpg")
    train, val, test = (data.open(split) for split in ("train", "val", "test"))
    assert train.classes == val.classes == test.classes and train.classes.names == ("cat", "dog", "ape", "bee")
    assert val.labels.tolist() == [1, 2] and test.labels.tolist() == [1, 3]
    assert "classes without an image here: 2 (first: ape)" in train.problems[0]
    assert "classes without an image here: 2 (first: cat)" in val.problems[0]


def test_images_without_split_folders_are_divided_and_it_is_said(tmp_path):
    names = [f"{name}/{number:02}.png" for name, count in (("cat", 11), ("dog", 4)) for number in range(count)]
    data = put(tmp_path, *reversed(names))
    train, val = data.open("train"), data.open("validation")
    assert val.names == ("cat/04.png", "cat/09.png")
    assert sorted(train.names + val.names) == names
    assert val.labels.tolist() == [0, 0] and train.labels.tolist() == [0] * 9 + [1] * 4
    assert train.classes == val.classes and val[1].image[0, 0, 0] == names[::-1].index("cat/09.png")
    said = "no folders of splits, so one image in 5 of each class is held out: train has 13 of 15 (2 classes: cat, dog)"
    assert train.problems == (f"{tmp_path}: {said}",)
    assert "validation has 2 of 15" in val.problems[0] and "without an image here: 1 (first: dog)" in val.problems[1]


def test_a_broken_image_does_not_move_the_division(tmp_path):
    data = put(tmp_path, *(f"{name}/{number}.png" for name in ("cat", "dog") for number in range(10)))
    before = data.open("val").names
    (tmp_path / "cat" / "2.png").write_bytes(b"no image")
    assert data.open("val").names == before
    assert "cat/2.png" not in data.open("train").names and len(data.open("train")) == 15


def test_the_division_can_be_chosen(tmp_path):
    put(tmp_path, *(f"{name}/{number}.png" for name in ("cat", "dog") for number in range(4)))
    data = ImageFolder(str(tmp_path), train_split="fit", split="check", holdout=2)
    assert data.open("check").names == ("cat/1.png", "cat/3.png", "dog/1.png", "dog/3.png")
    assert not set(data.open("fit").names) & set(data.open("check").names)
    with pytest.raises(DataError, match=r"divided into 'fit' and 'check'; got 'val'"):
        data.open("val")
    with pytest.raises(DataError, match=r"holdout is at least 2.*; got 1"):
        ImageFolder(str(tmp_path), holdout=1).open("train")


def test_a_class_may_be_called_as_a_split_is(tmp_path):
    source = put(tmp_path, "boat/1.png", "plane/1.png", "train/1.png").open("train")
    assert source.classes.names == ("boat", "plane", "train") and source.folder == tmp_path


def test_hidden_files_and_clutter_are_passed_over_and_others_counted(tmp_path):
    data = pets(tmp_path)
    put(tmp_path, "train/cat/._1.png", "train/.cache/1.png", "train/__MACOSX/cat/1.png", "train/loose.png")
    for name in ("train/.DS_Store", "train/dog/Thumbs.db", "train/notes.txt", "train/cat/a.csv", ".hidden"):
        (tmp_path / name).write_text("nothing")
    source = data.open("train")
    assert len(source) == 3 and source.classes.names == ("cat", "dog")
    where = str(tmp_path / "train")
    assert source.problems == (
        f"{where}: ignored files that are no images by their names: 2 (first: notes.txt)",
        f"{where}: ignored images outside the folders of classes: 1 (first: loose.png)",
    )


def test_images_that_cannot_be_read_are_left_out_and_counted(tmp_path):
    data = pets(tmp_path)
    (tmp_path / "train/cat/0.png").write_bytes(b"")
    (tmp_path / "train/dog/0.png").write_bytes(b"<html>")
    source = data.open("train")
    assert source.names == ("cat/1.png", "cat/2.JPEG", "dog/1.jpg") and source.labels.tolist() == [0, 0, 1]
    assert "left out images that cannot be read: 2 (first: " in source.problems[0] and "0.png is empty" in str(source)
    unchecked = ImageFolder(str(tmp_path), check_images=False).open("train")
    assert len(unchecked) == 5 and unchecked.problems == ()
    with pytest.raises(DataError, match=r"dog.0\.png is no image"):
        unchecked[3]


def test_a_file_that_vanishes_or_breaks_later_is_named(tmp_path):
    source = pets(tmp_path).open("train")
    (tmp_path / "train/cat/1.png").unlink()
    whole = (tmp_path / "train/dog/1.jpg").read_bytes()
    (tmp_path / "train/dog/1.jpg").write_bytes(whole[:45])
    with pytest.raises(DataError, match=r"cat.1\.png cannot be read: No such file"):
        source[0]
    with pytest.raises(DataError, match=r"dog.1\.jpg is broken or truncated"):
        source[2]


def test_photos_are_turned_upright(tmp_path):
    data = pets(tmp_path)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 30)).save(tmp_path / "train/dog/1.jpg", exif=exif)
    sample = data.open("train")[2]
    assert sample.image.shape == (40, 30, 3) and sample.boxes.tolist() == [[0, 0, 30, 40]]


def test_links_to_folders_of_classes_are_followed_and_links_in_them_are_not(tmp_path):
    put(tmp_path, "store/cat/1.png", "store/dog/1.png")
    (tmp_path / "data" / "train").mkdir(parents=True)
    for name in ("cat", "dog"):
        os.symlink(tmp_path / "store" / name, tmp_path / "data" / "train" / name)
    os.symlink(tmp_path / "store", tmp_path / "store" / "cat" / "again")
    source = ImageFolder(str(tmp_path / "data")).open("train")
    assert source.names == ("cat/1.png", "dog/1.png") and "1 (first: cat/again)" in source.problems[0]


def test_missing_roots_are_named(tmp_path):
    (tmp_path / "file").touch()
    for root, words in (
        ("", "no data folder is given"),
        (str(tmp_path / "nowhere"), "nowhere does not exist"),
        (str(tmp_path / "file"), "file is a file, not a folder"),
    ):
        with pytest.raises(DataError, match=rf"{words}.*--data\.root FOLDER"):
            ImageFolder(root).open("train")


def test_a_missing_split_names_those_that_are_there(tmp_path):
    pets(tmp_path, "test")
    with pytest.raises(
        DataError, match=r"no folder of the split 'val' \(nor valid nor validation\).* are test, train\."
    ):
        pets(tmp_path).open("val")
    with pytest.raises(DataError, match=r"no folder of the split 'minival': .*--data\.split"):
        pets(tmp_path).open("minival")
    capitals = pets(tmp_path / "capitals", "Training")
    with pytest.raises(DataError, match=r"no folder of the split 'train': those in it are Training\."):
        capitals.open("train")


def test_folders_without_folders_of_classes_get_the_layout(tmp_path):
    put(tmp_path, "train/2.png", "train/1.png", "flat/1.png", "test/cat/1.png")
    (tmp_path / "empty").mkdir()
    layout = r"Lay the images out as <split>/<class name>/<image>"
    for root, words in (
        (tmp_path, r"train has no folders of classes, and images lie directly in it: 2 \(first: 1\.png\)"),
        (tmp_path / "flat", r"flat has no folders of classes, and images lie directly in it: 1 \(first: 1\.png\)"),
        (tmp_path / "empty", r"empty has no folders of classes, and there are no images in it"),
        (tmp_path / "test", r"test has one class only, 'cat', so there is nothing to tell apart"),
    ):
        with pytest.raises(DataError, match=rf"{words}\. {layout}"):
            ImageFolder(str(root)).open("train")


def test_a_class_without_an_image_stops_training_only(tmp_path):
    pets(tmp_path)
    data = pets(tmp_path, "val")
    for split in ("train", "val"):
        (tmp_path / split / "dog" / "1.jpg").write_bytes(b"")
    words = r"train has no image that can be used in 1 of its 2 classes: 'dog'\. Put images.*dog.1\.jpg is empty"
    with pytest.raises(DataError, match=words):
        data.open("train")
    val = data.open("val")
    assert len(val) == 2 and "classes without an image here: 1 (first: dog)" in val.problems[1]
    for name in ("1.png", "2.JPEG"):
        (tmp_path / "val" / "cat" / name).unlink()
    with pytest.raises(DataError, match=r"val has no image that can be used in 2 of its 2 classes: 'cat', 'dog'"):
        data.open("val")


def test_one_class_is_enough_to_evaluate_on(tmp_path):
    pets(tmp_path)
    assert put(tmp_path, "val/dog/1.png").open("val").labels.tolist() == [1]
