import errno
import os
from types import SimpleNamespace

import pytest

from vitjax.checkpoints.writing import CannotWrite, replace_text, writing


def test_a_folder_that_can_be_made_is_not_made_before_the_work(tmp_path):
    with writing(tmp_path / "a" / "b", "--out"):
        assert list(tmp_path.iterdir()) == []
    with writing(None, "--out"), writing(tmp_path, "--out"), writing(tmp_path / "x.png", "--out", file=True):
        pass


@pytest.mark.parametrize(
    ("name", "file", "fault"),
    [
        ("file", False, "it is a file, not a folder"),
        ("file/run", False, r".*/file is a file, not a folder"),
        ("link", False, "it is a link to nowhere"),
        (".", True, "it is a folder, not a file"),
        ("file/x.png", True, ".*/file is a file, not a folder"),
    ],
)
def test_what_stands_in_the_way_is_named_before_the_work(tmp_path, name, file, fault):
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(CannotWrite, match=rf"^{tmp_path / name} cannot be written: {fault}\. Give another --out\.$"):
        with writing(tmp_path / name, "--out", file=file):
            raise AssertionError("the work has begun")


@pytest.mark.parametrize(
    ("disk", "fault"),
    [
        (SimpleNamespace(f_flag=os.ST_RDONLY, f_blocks=9, f_bfree=9, f_bavail=9), "Read-only file system"),
        (SimpleNamespace(f_flag=0, f_blocks=9, f_bfree=0, f_bavail=0), "No space left on device"),
    ],
)
def test_a_disk_that_takes_nothing_is_named_before_the_work(tmp_path, monkeypatch, disk, fault):
    monkeypatch.setattr(os, "statvfs", lambda path: disk)
    with pytest.raises(CannotWrite, match=rf"cannot be written: {fault}\. Give another --workdir\."):
        with writing(tmp_path / "run", "--workdir"):
            raise AssertionError("the work has begun")


def test_a_folder_closed_to_the_user_is_named_before_the_work(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: os.fspath(path) != os.fspath(tmp_path))
    for name, file in (("run", False), ("deep/run", False), ("x.png", True)):
        with pytest.raises(CannotWrite, match="cannot be written: Permission denied"):
            with writing(tmp_path / name, "--out", file=file):
                raise AssertionError("the work has begun")


def test_a_file_closed_to_the_user_is_named_before_the_work(tmp_path, monkeypatch):
    (tmp_path / "x.png").touch()
    monkeypatch.setattr(os, "access", lambda path, mode: os.path.isdir(path))
    with pytest.raises(CannotWrite, match=r"x\.png cannot be written: Permission denied"):
        with writing(tmp_path / "x.png", "--out", file=True):
            raise AssertionError("the work has begun")


def test_what_shows_only_in_the_work_is_told_the_same_way(tmp_path):
    with pytest.raises(CannotWrite, match=r"cannot be written: No space left on device\. Give another --out\."):
        with writing(tmp_path, "--out"):
            raise OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(CannotWrite, match=rf"^{tmp_path}/a/b cannot be written: Is a directory"):
        with writing(tmp_path, "--out"):
            (tmp_path / "a" / "b").mkdir(parents=True)
            open(tmp_path / "a" / "b", "w")


def test_errors_of_other_files_and_of_code_stay_what_they_are(tmp_path):
    with pytest.raises(FileNotFoundError), writing(tmp_path / "out", "--out"):
        open(tmp_path / "image.png")
    with pytest.raises(OSError, match="encoder"), writing(tmp_path / "out", "--out"):
        raise OSError("encoder error")
    with pytest.raises(ConnectionResetError), writing(tmp_path / "out", "--out"):
        raise ConnectionResetError(errno.ECONNRESET, "reset")


def test_an_error_without_a_number_on_a_full_disk_is_the_disks(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=0))
    with pytest.raises(CannotWrite, match="No space left on device"), writing(tmp_path, "--out"):
        raise OSError("encoder error -2 when writing image file")


def test_a_file_is_replaced_as_a_whole(tmp_path):
    replace_text(tmp_path / "a", "one")
    replace_text(tmp_path / "a", "two")
    assert (tmp_path / "a").read_text() == "two" and [path.name for path in tmp_path.iterdir()] == ["a"]
