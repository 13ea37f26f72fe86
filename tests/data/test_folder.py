import os
from pathlib import Path

import pytest

from vitjax.data.errors import DataError
from vitjax.data.folder import open_file, read_bytes


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
