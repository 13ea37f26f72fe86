import time
import unicodedata

import pytest

from vitjax.data.errors import DataError, Tally
from vitjax.data.image_paths import OUTSIDE, Finder, find_folder, found_images, parts_of


def laid(root, *paths):
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    return root


def found(root, folder, *written, outside=False):
    """The paths of the images that are there, by what is written of them, and what is counted."""
    tally, finder = Tally(), Finder(root, outside)
    images = {written[number]: path for number, path in found_images(finder, root / folder, written, tally)}
    return images, {kind: count for kind, (count, _) in tally.kinds.items()}


@pytest.mark.parametrize(
    ("written", "parts"),
    [
        ("a/b.jpg", ("a", "b.jpg")),
        ("images\\a.jpg", ("images", "a.jpg")),
        ("C:\\Users\\me\\a.jpg", ("Users", "me", "a.jpg")),
        ("..\\..\\media\\upload\\4\\x.jpg", ("media", "upload", "4", "x.jpg")),
        ("./a//b.jpg", ("a", "b.jpg")),
        ("http://host:80/a/b.jpg?x=y#z", ("a", "b.jpg")),
        ("s3://bucket/a/b.jpg", ("a", "b.jpg")),
        ("/data/local-files/?d=a/b.jpg", ("a", "b.jpg")),
        ("http://[no address/b.jpg", ("http:", "[no address", "b.jpg")),
        ("D:a.jpg", ("a.jpg",)),
        ("..", ()),
    ],
)
def test_a_path_of_any_system_or_a_url_has_these_parts(written, parts):
    assert parts_of(written) == parts


@pytest.mark.parametrize(
    ("written", "path", "kind"),
    [
        ("images\\a.jpg", "images/a.jpg", "read \\ in file names as /"),
        ("/home/me/images/a.jpg", "images/a.jpg", "by the end"),
        ("D:\\set\\images\\a.jpg", "images/a.jpg", "by the end"),
        ("http://host/images/a.jpg?x=y", "images/a.jpg", "without what is no path"),
        ("http://host/2020/images/a.jpg?x=y", "images/a.jpg", "by the end"),
        ("/data/upload/1/0a1b2c3d-b%20c.PNG", "b c.png", "by the end"),
        ("IMAGES/A.JPG", "images/a.jpg", "differ in capitals"),
        ("b%20c.png", "b c.png", "written differently"),
        ("Müller.jpg", "Mu\u0308ller.jpg", "accents"),
        ("../train/images/a.jpg", "../train/images/a.jpg", None),
    ],
)
def test_the_longest_end_of_a_name_that_is_there_is_taken_and_counted(tmp_path, written, path, kind):
    laid(tmp_path, "train/images/a.jpg", "train/a.jpg", "train/b c.png", "train/Mu\u0308ller.jpg")
    images, counted = found(tmp_path, "train", written)
    assert images == {written: path}
    assert [kind in one for one in counted] == ([] if kind is None else [True])


def test_a_name_does_not_lead_out_of_the_data_folder(tmp_path):
    laid(tmp_path, "secret.jpg", "data/train/a.jpg")
    images, counted = found(tmp_path / "data", "train", "../../secret.jpg", "a/../../../secret.jpg")
    assert images == {} and counted == {OUTSIDE: 1, "left out images whose file is missing": 1}
    laid(tmp_path, "data/train/secret.jpg")
    assert found(tmp_path / "data", "train", "../../secret.jpg")[0] == {"../../secret.jpg": "secret.jpg"}


def test_what_leads_out_of_the_data_folder_is_taken_only_where_that_is_allowed_and_said(tmp_path):
    laid(tmp_path, "elsewhere/a.jpg", "elsewhere/deep/e.jpg", "data/train/b.jpg", "data/c.jpg")
    train = tmp_path / "data/train"
    (train / "link.jpg").symlink_to(tmp_path / "elsewhere/a.jpg")
    (train / "within.jpg").symlink_to("../c.jpg")
    (train / "there").symlink_to(tmp_path / "elsewhere/deep")
    names = (str(tmp_path / "elsewhere/a.jpg"), "../../elsewhere/a.jpg", "link.jpg", "there/e.jpg")
    assert found(tmp_path / "data", "train", *names, "within.jpg") == ({"within.jpg": "within.jpg"}, {OUTSIDE: 4})
    images, counted = found(tmp_path / "data", "train", *names[::2], outside=True)
    assert images == {name: name for name in names[::2]}
    assert counted == {"took images from outside of the data folder": 1}
    laid(tmp_path, "data/train/elsewhere/a.jpg")  # a copy that lies within is taken in place of it
    assert found(tmp_path / "data", "train", names[0])[0] == {names[0]: "elsewhere/a.jpg"}


def test_a_folder_of_images_may_itself_be_a_link(tmp_path):
    laid(tmp_path, "disk/a.jpg", "data/b.jpg")
    (tmp_path / "data/train").symlink_to(tmp_path / "disk")
    assert found(tmp_path / "data", "train", "a.jpg") == ({"a.jpg": "a.jpg"}, {})


def test_what_may_be_several_files_is_none_of_them_and_said(tmp_path):
    laid(tmp_path, "train/a.JPG", "train/a.jpg", "train/b.jpg")
    images, counted = found(tmp_path, "train", "A.jpg", "x/b.jpg", "y/b.jpg")
    assert images == {}
    assert counted == {
        "left out images whose name fits several files": 1,
        "left out images of which several end at one file": 2,
    }
    assert found(tmp_path, "train", "b.jpg", "y/b.jpg") == (
        {"b.jpg": "b.jpg"},
        {"left out images whose file is missing": 1},
    )


def test_two_spellings_of_one_path_are_the_same_file(tmp_path):
    laid(tmp_path, "train/images/a.jpg")
    images, _ = found(tmp_path, "train", "images\\a.jpg", "images/A.jpg", "./images/a.jpg")
    assert images == dict.fromkeys(("images\\a.jpg", "images/A.jpg", "./images/a.jpg"), "images/a.jpg")


@pytest.mark.parametrize(
    ("files", "written", "folder"),
    [
        (("train/data/1.jpg",), "1.jpg", "train/data"),
        (("train/images/1.jpg", "val/images/1.jpg"), "1.jpg", "train/images"),
        (("data/train/1.jpg",), "1.jpg", "data/train"),
        (("val/1.jpg", "train/1.jpg"), "C:\\set\\train\\1.jpg", "."),
    ],
)
def test_the_folder_of_the_images_is_found(tmp_path, files, written, folder):
    laid(tmp_path, *files)
    tally = Tally()
    assert find_folder(tmp_path, "train", tmp_path / "train.json", [written], tally) == tmp_path / folder
    assert not tally.kinds


@pytest.mark.parametrize("folders", [("a_val", "b", "c_train"), ("a_val", "b")])
def test_of_other_folders_that_of_the_split_goes_first_and_that_of_another_last(tmp_path, folders):
    laid(tmp_path, *(f"{folder}/photos/1.jpg" for folder in folders))
    found = find_folder(tmp_path, "train", tmp_path / "train.json", ["1.jpg"], Tally())
    assert found == tmp_path / folders[-1] / "photos"


def test_that_several_folders_have_the_images_is_said(tmp_path):
    laid(tmp_path, "large/1.jpg", "small/1.jpg")
    (tmp_path / "link").symlink_to(tmp_path / "large")
    tally = Tally()
    assert find_folder(tmp_path, "train", tmp_path / "train.json", ["1.jpg"], tally) == tmp_path / "large"
    (said,) = tally.lines("train.json")
    assert "first of several folders that have them: 1 (first: " in said and "large, not " in said and "small" in said


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("http://host/a.jpg", "It is a URL, and nothing is downloaded"),
        ("D:\\a.jpg", "It is a path of another machine"),
        ("data:image/png;base64," + "A" * 9000, "It is a picture written out as text"),
    ],
)
def test_what_is_nowhere_is_named_as_what_it_is(tmp_path, written, words):
    laid(tmp_path, "train/other.jpg")
    with pytest.raises(DataError, match=words) as caught:
        find_folder(tmp_path, "train", tmp_path / "train.json", [written], Tally())
    assert len(str(caught.value)) < 1000


def test_folders_are_listed_once_however_many_images_they_hold(tmp_path, monkeypatch):
    import os

    laid(tmp_path, *(f"train/{number}.jpg" for number in range(300)))
    calls = []
    listing = os.listdir
    monkeypatch.setattr(os, "listdir", lambda folder: calls.append(folder) or listing(folder))
    written = [unicodedata.normalize("NFD", f"{number}.JPG") for number in range(300)]
    assert len(found(tmp_path, "train", *written)[0]) == 300
    assert len(calls) <= 2


def test_absolute_paths_that_are_there_need_no_folder(tmp_path):
    laid(tmp_path, "elsewhere/a.jpg", "train/b.jpg", "images/b.jpg", "annotations/t.json")
    tally, written = Tally(), [str(tmp_path / "elsewhere/a.jpg")]
    root, listing = tmp_path / "annotations", tmp_path / "annotations/t.json"
    with pytest.raises(DataError, match=r"but outside of the data folder: --data\.limits\.outside takes it"):
        find_folder(root, "train", listing, written, tally)
    folder = find_folder(root, "train", listing, written, tally, outside=True)
    assert not tally.kinds
    assert [path for _, path in found_images(Finder(root, True), folder, written, tally)] == written


def test_a_path_of_thousands_of_parts_takes_no_longer_than_its_end(tmp_path):
    laid(tmp_path, "train/a.jpg", *(f"d{number}/b.jpg" for number in range(20)))
    written = [f"{'x/' * 5000}{number}/a.jpg" for number in range(32)]
    started = time.process_time()
    assert find_folder(tmp_path, "train", tmp_path / "t.json", written, Tally()) == tmp_path / "train"
    assert time.process_time() - started < 5


def test_links_to_their_own_folder_do_not_double_what_is_looked_for(tmp_path):
    laid(tmp_path, "train/a.jpg")
    for name in ("b b", "B b"):
        (tmp_path / "train" / name).symlink_to(".")
    started = time.process_time()
    found(tmp_path, "train", f"{'b%20b/' * 40}a.jpg")
    assert time.process_time() - started < 5


def test_what_is_told_of_a_name_is_one_line_that_can_be_written(tmp_path):
    laid(tmp_path, "train/a.jpg")
    tally = Tally()
    list(found_images(Finder(tmp_path), tmp_path / "train", ["x\n\x1b[31m\ud800.jpg"], tally))
    (line,) = tally.lines("t.json")
    assert line.encode() and line.isprintable() and r"x\n\x1b[31m\ud800.jpg" in line


@pytest.mark.parametrize("written", ["a.png", "train/a.png", "images/train/a.png", "./images/train/a.png"])
@pytest.mark.parametrize("link", ["images", "images/train", "train"])
def test_images_of_a_folder_that_is_linked_into_the_root_are_found(link, written, tmp_path):
    laid(tmp_path, "disk/train/a.png", "disk/a.png")
    root = tmp_path / "data"
    (root / link).parent.mkdir(parents=True)
    (root / link).symlink_to(tmp_path / "disk" / ("train" if link.endswith("train") else ""))
    laid(root, "instances_train.json")
    tally = Tally()
    folder = find_folder(root, "train", root / "instances_train.json", [written], tally)
    ((_, path),) = found_images(Finder(root), folder, [written], tally)
    assert (folder / path).is_file() and not any("outside" in kind for kind in tally.kinds)
