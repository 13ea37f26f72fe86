"""Whatever stands in a file of weights ends in arrays or in one line: never in an error of Python's."""

import argparse
import io
import os
import struct
import warnings
import zipfile

import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from published import saved
from safetensors.numpy import save_file

from vitjax.errors import VitjaxError
from vitjax.formats.tensor_files import read_tensors
from vitjax.runs.read_model import read_file

QUIET = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
SOME = {
    "backbone.conv1.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "half": np.array([1.5, -2], ml_dtypes.bfloat16),
    "count": np.array(7),
    "vitjax.json": np.frombuffer(b'{"experiment": {"__class__": "Detection"}, "classes": {}}', np.uint8),
}


def write_npz(path, save=np.savez):
    save(path, **SOME)
    return path


def write_safetensors(path):
    save_file(SOME, path, {"backbone": "resnet50"})
    return path


WRITERS = {
    "pth": lambda path: saved(path, args=argparse.Namespace(lr=1.0, sizes=(1, [2])), model=SOME, epoch=3),
    "npz": write_npz,
    "packed npz": lambda path: write_npz(path, np.savez_compressed),
    "safetensors": write_safetensors,
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    return {name: writer(folder / f"it.{name.split()[-1]}").read_bytes() for name, writer in WRITERS.items()}


NUMBERS = [b"\x00", b"\xff", b"9" * 30, b"-1", b"1e9", b"\\ud800", b"nan", b"[", b"}", struct.pack("<Q", 2**62), b"O"]
PIECE = st.sampled_from(NUMBERS) | st.binary(max_size=8)
EDIT = st.tuples(st.floats(0, 1), st.integers(0, 8), PIECE)


def edited(content, edits, share):
    """The bytes with pieces replaced, and then maybe cut short."""
    for place, length, piece in edits:
        begin = int(place * len(content))
        content = content[:begin] + piece + content[begin + length :]
    return content[: int(share * len(content))]


def repacked(content, data):
    """A zip file with edits inside of its members, whose checksums are right again."""
    written = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as archive, zipfile.ZipFile(written, "w") as made:
        for name in archive.namelist():
            inner = archive.read(name)
            if data.draw(st.booleans()):
                inner = edited(inner, data.draw(st.lists(EDIT, max_size=3)), data.draw(st.just(1.0) | st.floats(0, 1)))
            made.writestr(data.draw(st.just(name) | st.sampled_from([f"{name}x", "a.npy", "x/data.pkl"])), inner)
    return written.getvalue()


def is_read_or_told(path, content):
    path.write_bytes(content)
    for read in (read_tensors, read_file):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # NumPy's, on headers that are read all the same
                found = read(path)
            if read is read_tensors:
                kinds = {np.asarray(array).dtype.kind for array in found.tensors.values()}
                assert kinds <= set("fiubV"), kinds
                for array in found.tensors.values():
                    np.isfinite(array.astype(np.float32)).all()
        except VitjaxError as error:
            assert str(error).encode(errors="backslashreplace") and "\n" not in str(error)[:40]
    return True


def is_any_damage_told(path, made, kind, data):
    content = made[kind]
    if kind != "safetensors" and data.draw(st.booleans()):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of members with the same name
            content = repacked(content, data)
    else:
        content = edited(content, data.draw(st.lists(EDIT, max_size=4)), data.draw(st.just(1.0) | st.floats(0, 1)))
    return is_read_or_told(path, content)


@pytest.mark.parametrize("kind", WRITERS)
@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=QUIET)
@given(data=st.data())
def test_any_damage_of_a_file_is_arrays_or_one_line(tmp_path, made, kind, data):
    assert is_any_damage_told(tmp_path / "it.weights", made, kind, data)


@pytest.mark.long
@pytest.mark.parametrize("kind", WRITERS)
@settings(max_examples=5_000, deadline=None, suppress_health_check=QUIET)
@given(data=st.data())
def test_many_damages_of_files_are_arrays_or_one_line(tmp_path, made, kind, data):
    assert is_any_damage_told(tmp_path / "it.weights", made, kind, data)


PLACES = {
    "folder": os.mkdir,
    "pipe": os.mkfifo,
    "link to itself": lambda path: os.symlink(path, path),
    "link to nowhere": lambda path: os.symlink("/nowhere", path),
    "device": lambda path: os.symlink("/dev/zero", path),
}


@pytest.mark.parametrize("place", PLACES)
def test_what_is_no_file_is_one_line(tmp_path, place):
    PLACES[place](tmp_path / "it.pth")
    for read in (read_tensors, read_file):
        with pytest.raises(VitjaxError, match=r"it\.pth"):
            read(tmp_path / "it.pth")
