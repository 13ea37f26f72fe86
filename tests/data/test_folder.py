import os
from pathlib import Path

import pytest

from vitjax.data.errors import DataError
from vitjax.data.folder import data_root, open_file, read_bytes
from vitjax.data.near import near_path


def test_a_file_is_read(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    with open_file(tmp_path / "a") as file:
        assert file.read() == b"abc" == read_bytes(tmp_path / "a")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes among files")
def test_pipes_and_devices_are_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    for path in (tmp_path / "pipe.jpg", Path("/dev/zero")):
        with pytest.raises(DataError, match=r"cannot be read: It is a pipe or a device, not a file\."):
            read_bytes(path)


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("runs/mne", "runs/mine"),
        ("rnus/mine", "runs/mine"),
        ("mine", "runs/mine"),
        ("mnie", "runs/mine"),
        ("weights.pht", "weights.pth"),
        ("weights.pth/mine", None),
        ("nothing", None),
        ("runs/nothing", None),
    ],
)
def test_what_is_mistyped_gets_the_nearest_name_that_is_there(tmp_path, monkeypatch, name, near):
    monkeypatch.chdir(tmp_path)
    Path("runs/mine").mkdir(parents=True)
    Path("weights.pth").touch()
    assert near_path(Path(name)) == (near and Path(near))
    assert near_path(tmp_path / "runs/mne") == tmp_path / "runs/mine"


def test_a_mistyped_data_folder_gets_the_nearest_name(tmp_path):
    (tmp_path / "raccoons").mkdir()
    with pytest.raises(DataError, match=r"racoons does not exist\. Did you mean .*/raccoons\? Name one\."):
        data_root(str(tmp_path / "racoons"), "Name one.")
