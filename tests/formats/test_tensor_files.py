"""Files of tensors: the content tells the format, the model is found in a checkpoint, and errors say what is wrong."""

import argparse
import io
import json
import pickle
import struct
import zipfile

import ml_dtypes
import numpy as np
import pytest
from published import saved
from safetensors import safe_open
from safetensors.numpy import save_file

from vitjax.data.errors import DataError
from vitjax.formats.pth import write_pth
from vitjax.formats.tensor_files import read_tensors, write_tensors

SOME = {
    "a.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "half": np.array([1.5, -2], ml_dtypes.bfloat16),
    "count": np.array(7),
    "valid": np.array([True, False]),
}


def assert_same(found, wanted):
    assert found.keys() == wanted.keys()
    for name, array in wanted.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_what_is_written_is_read(suffix, tmp_path):
    path = tmp_path / f"it{suffix}"
    write_tensors(path, SOME)
    assert_same(read_tensors(path).tensors, SOME)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_the_format_is_told_by_the_content(suffix, tmp_path):
    write_tensors(tmp_path / f"it{suffix}", SOME)
    (tmp_path / f"it{suffix}").rename(tmp_path / "it.pth.tar")
    assert_same(read_tensors(tmp_path / "it.pth.tar").tensors, SOME)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_files_are_read_with_their_bfloat16(save, tmp_path):
    save(tmp_path / "it.npz", **SOME)
    assert_same(read_tensors(tmp_path / "it.npz").tensors, SOME)


def test_the_metadata_of_safetensors_are_settings(tmp_path):
    save_file({"a": SOME["a.weight"]}, tmp_path / "it.safetensors", {"backbone": "resnet50"})
    assert read_tensors(tmp_path / "it.safetensors").settings == {"backbone": "resnet50"}


def test_arrays_that_are_not_in_order_are_written_right(tmp_path):
    turned = np.arange(12, dtype=np.float32).reshape(3, 4).T[1:]
    write_tensors(tmp_path / "it.safetensors", {"a": turned, "b": turned.astype(">f4")})
    assert_same(read_tensors(tmp_path / "it.safetensors").tensors, {"a": turned, "b": turned})
    with safe_open(tmp_path / "it.safetensors", framework="np") as file:
        assert file.metadata() == {"format": "pt"}


@pytest.mark.parametrize("key", ["model", "state_dict", "model_state_dict", "module", "net"])
def test_the_state_of_a_checkpoint_is_found(key, tmp_path):
    path = saved(tmp_path / "it.pth", epoch=3, optimizer={"state": {}}, **{key: SOME})
    assert_same(read_tensors(path).tensors, SOME)


def test_a_mapping_without_tensors_is_passed_over(tmp_path):
    path = saved(tmp_path / "it.pth", model={"name": "detr"}, state_dict=SOME)
    assert_same(read_tensors(path).tensors, SOME)


def test_the_prefix_of_data_parallel_goes_if_all_names_have_it(tmp_path):
    everywhere = {f"module.{name}": array for name, array in SOME.items()}
    assert_same(read_tensors(saved(tmp_path / "it.pth", model=everywhere)).tensors, SOME)
    once = {"module.a": SOME["a.weight"], "b": SOME["count"]}
    assert_same(read_tensors(saved(tmp_path / "it.pth", model=once)).tensors, once)


def test_arguments_beside_the_state_are_settings(tmp_path):
    settings = argparse.Namespace(lr=1e-4, masks=False, sizes=(1, [2]), inner=argparse.Namespace(a={"b": None}))
    found = read_tensors(saved(tmp_path / "it.pth", args=settings, model=SOME)).settings
    assert found == {"lr": 1e-4, "masks": False, "sizes": (1, [2]), "inner": {"a": {"b": None}}}
    assert [type(found), type(found["inner"])] == [dict, dict]


@pytest.mark.parametrize("doubled", [False, True])
def test_settings_without_end_are_an_error(doubled, tmp_path):
    settings: dict = {"lr": 1.0}
    for _ in range(50):
        settings = {"a": settings, "b": settings}
    if not doubled:
        settings["itself"] = settings
    with pytest.raises(DataError, match="settings that hold themselves or have no end"):
        read_tensors(saved(tmp_path / "it.pth", config=settings, model=SOME))


def test_values_that_are_no_tensors_are_left_out(tmp_path):
    state = SOME | {"version": np.array(1)}
    write_pth(tmp_path / "it.pth", state)
    with zipfile.ZipFile(tmp_path / "it.pth") as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    records["archive/data.pkl"] = records["archive/data.pkl"][:-2] + pickle.dumps("extra", 2)[2:-1] + b"Nu."
    with zipfile.ZipFile(tmp_path / "it.pth", "w") as archive:
        for name, content in records.items():
            archive.writestr(name, content)
    assert_same(read_tensors(tmp_path / "it.pth").tensors, state)


def test_a_file_without_tensors_names_what_it_holds(tmp_path):
    path = saved(tmp_path / "it.pth", weights=SOME, epoch=3)
    with pytest.raises(DataError, match=r"the keys \['weights', 'epoch'\]; tensors by name are looked for at the top"):
        read_tensors(path)
    itself = b"\x80\x02}q\x00X\x05\x00\x00\x00modelh\x00s."
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("it/data.pkl", itself)
    with pytest.raises(DataError, match="holds no tensors where they should be"):
        read_tensors(path)
    np.savez(tmp_path / "it.npz")
    save_file({}, tmp_path / "it.safetensors")
    for name in ("it.npz", "it.safetensors"):
        with pytest.raises(DataError, match="no"):
            read_tensors(tmp_path / name)


def test_what_is_no_file_of_tensors_is_told(tmp_path):
    path = tmp_path / "detr.pth"
    for content, said in (
        (b"", "it is empty"),
        (b"<!DOCTYPE html><html>", "it is a web page"),
        (b"weights", "it is text that begins with 'weights'"),
        (b"PK\x03\x04" + bytes(50), "is a zip file without its end"),
    ):
        path.write_bytes(content)
        with pytest.raises(DataError, match=said):
            read_tensors(path)
    with pytest.raises(DataError, match="cannot be read: No such file"):
        read_tensors(tmp_path / "missing.pth")


def test_damaged_files_of_safetensors_and_numpy_are_errors(tmp_path):
    write_tensors(tmp_path / "it.safetensors", SOME)
    np.savez(tmp_path / "it.npz", **SOME)
    for name in ("it.safetensors", "it.npz"):
        whole = (tmp_path / name).read_bytes()
        for length in (9, 40, len(whole) // 2, len(whole) - 1):
            (tmp_path / name).write_bytes(whole[:length])
            with pytest.raises(DataError, match="it"):
                read_tensors(tmp_path / name)
    np.savez(tmp_path / "it.npz", a=np.array([{}], dtype=object))
    with pytest.raises(DataError, match=r"is no whole \.npz file of numbers"):
        read_tensors(tmp_path / "it.npz")


def test_a_damaged_end_of_a_zip_file_or_header_of_an_array_is_an_error(tmp_path):
    path = tmp_path / "it.npz"
    np.savez(path, **SOME)
    end = bytearray(path.read_bytes())
    end[-42:] = struct.pack("<4sLQL", b"PK\x06\x07", 1, 0, 2) + end[-22:]  # as if it spanned several disks
    header = zipped_array(b"\x93NUMPY\x01\x00\x10\x00{'shape': (6,\x0f }")
    for content in (end, header, zipped_array(b"no array")):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"it\.npz (is|holds no)"):
            read_tensors(path)


def zipped_array(content: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.npy", content)
    return file.getvalue()


def test_a_type_of_safetensors_that_is_not_known_is_named(tmp_path):
    header = json.dumps({"x": {"dtype": "F8_E4M3", "shape": [2], "data_offsets": [0, 2]}}).encode()
    (tmp_path / "it.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(2))
    with pytest.raises(DataError, match="holds x as F8_E4M3; known are F64"):
        read_tensors(tmp_path / "it.safetensors")


@pytest.mark.parametrize("name", ["it.npz", "it", "it.pth.tar"])
def test_only_two_suffixes_are_written(name, tmp_path):
    with pytest.raises(DataError, match=r"tensors are written to \.pth or \.safetensors"):
        write_tensors(tmp_path / name, SOME)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_what_cannot_be_written_leaves_what_was_there(suffix, tmp_path):
    path = tmp_path / f"it{suffix}"
    path.write_bytes(b"before")
    with pytest.raises(DataError, match="cannot hold x, which is complex128"):
        write_tensors(path, {"x": np.zeros(2, complex)})
    with pytest.raises(DataError, match="cannot be written"):
        write_tensors(path / f"below{suffix}", SOME)
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


def test_files_that_unpack_to_many_times_their_size_are_refused_by_what_they_declare(tmp_path):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, kernel=np.zeros(2**24 + 2**18, np.float32))
    assert path.stat().st_size < 2**18
    with pytest.raises(DataError, match=r"a\.npz is [\d,]+ bytes that unpack to 68,\d{3},\d{3}, which weights do not"):
        read_tensors(path)
    path = tmp_path / "a.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + b"N" * (2**26 + 2**20) + b".")
    with pytest.raises(DataError, match=r"a\.pth is [\d,]+ bytes that unpack to 68,"):
        read_tensors(path)
    np.savez_compressed(tmp_path / "small.npz", kernel=np.zeros(2**20, np.float32))  # as much as that is harmless
    assert read_tensors(tmp_path / "small.npz").tensors["kernel"].size == 2**20
