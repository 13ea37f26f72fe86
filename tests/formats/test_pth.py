"""Files of torch.save: what torch wrote is read, what is written torch reads, and nothing in them is ever executed."""

import argparse
import base64
import collections
import errno
import io
import os
import pickle
import struct
import zipfile
import zlib
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from vitjax.data.errors import DataError
from vitjax.formats.pth import read_pth, write_pth

# Made by torch 2.13, packed with zlib and base64, zipped and not:
#     w = torch.arange(12.0).reshape(3, 4)
#     state = OrderedDict(weight=w, turned=w.T[1:], tied=w, half=torch.tensor([1.5, -2], dtype=torch.bfloat16),
#                         valid=torch.tensor([True, False, True]), count=torch.tensor(7))  # all under "module."
#     args = argparse.Namespace(backbone="resnet50", lr=1e-4, masks=None, sizes=(2, [3]))
#     saved = {"model": state, "optimizer": {"state": {0: {"step": torch.tensor(1.0)}}}, "epoch": 3, "args": args}
#     torch.save(saved, file, _use_new_zipfile_serialization=zipped)
ZIPPED = """
eNqlll9v21QYxk/iNEnTrk3HoKyMMv4uZWvqOP/arW1ab3gXnkabgWSCUOQ4p7FXN85rn3QwKVLRaKV9CQT33HHBJf0KQ2jiYhcTu0CIC74C59hpZrt0
0dajnDixzvN7n5yc90k2ZC6GUDKJjo00OotUW9ONXbzQVIma7WybkjiBaoGxF+0ByigjVLBjNbEJEU2zTBNrxLDaTupTu4lt3LxhaCQF0bkqcBnljLe2
a+LsPWy0dAIxjVi0UrbeJYbppOo2bnQNs1knuO1Ydn1XSMFIJqMkqNChK9UWhrgnSUmmpZI73s0UJJQIXcNDUuHoVet0YVQeJ5DalJHMybEDGJNjcuQA
xh/qzMwZAhNVmPQ7Il27jZuQ1mlBPa4n9KTuIqY25QhFcAdwlr6gpNc8xDkCr1fhDWXMhzAoYFqf9N/TVXML3vSgfeeiaz1XGpg/75rPwQytGCXwFjMd
3YcLcmQf3vaqzRJ4pwoXlfHn5F3VNJrwbhBtWeYA+56LFeB9iuUIfODuxT58yLAfedhLBDJVmPNjNavbJvBxAHvLarcG2MsuNg9XKDZCYJ5i5+Y8XJbA
QhX4rjJKV1gdYuwY97ENuR4I7kFxiEow5HtQkFEPikrMvYc7UDradZddgLLHXvSxlwhcrcI1x3FcFO5Ymg7LMudCVLvlwIpGLx3VdnDqtrqDnY6qUbur
c99CpQdrGYUd9YaqbTesNoZ1962NnTYmRR5EJUrfmjZcv1mZKf35z4Xr897RVp1tB27c9uzTT+PAJ3L0K5BkTj2Am91GN7shJ5IrtcVbo/TksblxYmNN
I2HQWNkty95RSX0X2w5tGEnMhvpr2Mixur/8++QB2zE2T647g8rP6/b7qE5PT6u9g9tEEvMvWdodpQIzULkHf7Odi77QwBSqDAw0viHYYuEgiddepe7R
MA1CTMw87K88Ox+nVeIv9DCBVgOptsBL4tVTGPCoexX6tEYfdO7R+QOdh3Q+pROt0yyl8yKd/Dpz+nVva5VnOTXE6bmg05wkpo85PaygQ8ZMbNaesRaI
DWGuBZmCJC6fZvtrERRh5X9+8N1DFrnckPLrwfJ5SVw5Vflaoo9mJjqP/7JY1eQQE8tBEwVJXESv/v3vVVjtu3d//Gn4/k/6OmDQ8qc6//kUq/7o+9bn
w/tv1h887kd3sG3QBLivsl/rutF8+fzh+WIxt8TnFot5gc8Xl/jyYpkXhHyuUM7Rl4W8UCoJfNmNqctfXkpnqI+M6zLCzA58+qMzfcx5+H9IWO0PwOmA
8gsOnRS2YYg/xGYCkEd+yLHkDHP8QTQV4FRj6HgAhuX+dJgIyB/HUCi7wlp/CgS1eyMhbS6s9bdwUPt7WCuEtf7OC2rvxEPafFjr75yg9o+wthDW+s/9
ZED7WQKFOy0s9h/H2YD4N5/4/xtlQ47Hrxy1FTc/UI6Frr9G+19q8iim4m5ilfsLvF/skbinGXPXe2v/AzmsnHk=
"""
LEGACY = """
eNptk0tv00AQx/1K07otLW9aCpR3AjQkaZImvPqkRTIUGi6+VJHjLLGp6/V410UgRQqHRsBn4MCRj9GPgrghPgESB8Z2SNMqUWaznoz/v5ndmbb0RXX+
fl3/M/v2+6upTFt68UvGtQVCSp8UBMHzKacmdWp7xGc2dUHEAH0c/3Fszh1SI27DNlyQPukqOvl7j9SY/YEwkFugpPQEOplFfQ4JTdJlfLJdDkOaoiuh
BnWbkNSUIPjPDON3aYM4IJqIdYjJkcrUl36D+KSxZptcBSldBTkVZYGxgUMy74jdtDgoJqe+aWVqAbcdptZ8Ug9sp1HjxGXUr+3lVUikUnoyTAojjSaB
ofgVdd2hBn8dO1VI6icwplIolfK50nw+u1AulmA4yt/0AhjRxjY5qFuaoMma0oFRTdHEDox9tsLUxjmcqMJEf3488F3SgEkL8daQNVD+pBXLntrSRJSV
O3AaN6h+JpY9y+FcFc7ro32yNopesCb6fZbhvIGpGNStbSUqLlfqlTd9lJ8rZysluIh8CfkzYVnSPlzSxH24HLOvcJitwlV97JCzZzh2A64dBVHq9CDX
j0OKhQLcQIiMkJvR2e3DrRByO4akOOB6px9i0gDb5e4RyHNsmh7k3jFIJVcuwBxCRIRkEJJOx+L3OWSrkAv0EYynHrd3sUt9yLdgPm5SbnAChRYUNaEF
pag9GSceLAy+s0K5MJ+HcpdU6SM94PCwCo8YY5Ew8ahpwWNNjiQNv8ngiYk/nuEzom4au4R5homlLKY/wlILllP6MAbWDXOnTl0CK9GjT5hLeDELq7oU
Do4PaxuL06Wfv2dW5+KhMdgOg6ebcTHRBK5r0jZsaLLRgWdBPRyx7XDEBrSeOKgfpEH3Jw86b2XQ0SRIJrzIw097EZcl/KK10b6hHaD9QBOWBWESbRYt
uyx13zhYFA7k7l4URLG7TfZch9L/ABB+OC4=
"""


def unpacked(text: str) -> bytes:
    return zlib.decompress(base64.b64decode(text))


MADE = {"zipped": unpacked(ZIPPED), "legacy": unpacked(LEGACY)}


def op(value) -> bytes:
    """The opcodes of a plain value."""
    return pickle.dumps(value, 2)[2:-1]


def called(name: str, *arguments: bytes) -> bytes:
    """The opcodes of a call of `module name`."""
    return b"c" + name.replace(" ", "\n").encode() + b"\n(" + b"".join(arguments) + b"tR"


def zipped(pickled: bytes, **more: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in ({"data.pkl": pickled, "data/0": bytes(48)} | more).items():
            archive.writestr(f"archive/{name}", content)
    return file.getvalue()


def legacy(pickled: bytes) -> bytes:
    before = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}]
    return b"".join(pickle.dumps(value, 2) for value in before) + pickled + pickle.dumps([], 2)


def read(content: bytes, folder: Path):
    path = folder / "it.pth"
    path.write_bytes(content)
    return read_pth(path)


def stored(key, size, kind="FloatStorage") -> bytes:
    """The opcodes that refer to a storage."""
    return b"(" + op("storage") + f"ctorch\n{kind}\n".encode() + op(key) + op("cpu") + op(size) + b"tQ"


STORAGE = stored("0", 12)


def tensor(offset, size, stride, storage=STORAGE) -> bytes:
    return called("torch._utils _rebuild_tensor_v2", storage, op(offset), op(size), op(stride), op(False), op({}))


@pytest.mark.parametrize("form", MADE)
def test_what_torch_saved_is_read(form, tmp_path):
    content = read(MADE[form], tmp_path)
    weight = np.arange(12, dtype=np.float32).reshape(3, 4)
    wanted = {
        "module.weight": weight,
        "module.turned": weight.T[1:],
        "module.tied": weight,
        "module.half": np.array([1.5, -2], ml_dtypes.bfloat16),
        "module.valid": np.array([True, False, True]),
        "module.count": np.array(7),
    }
    assert list(content["model"]) == list(wanted)
    for name, array in content["model"].items():
        assert array.dtype == wanted[name].dtype
        np.testing.assert_array_equal(array, wanted[name])
    assert content["args"] == {"backbone": "resnet50", "lr": 1e-4, "masks": None, "sizes": (2, [3])}
    assert content["epoch"] == 3
    assert content["optimizer"]["state"][0]["step"] == 1


@pytest.mark.parametrize("form", MADE)
def test_tensors_of_one_storage_share_memory_and_cannot_be_written(form, tmp_path):
    model = read(MADE[form], tmp_path)["model"]
    assert np.shares_memory(model["module.weight"], model["module.turned"])
    assert model["module.turned"].strides == (4, 16)
    assert not any(array.flags.writeable for array in model.values())


def test_storages_of_big_endian_machines_are_turned(tmp_path):
    content = zipped(
        b"\x80\x02" + tensor(0, (2,), (1,)) + b".", **{"data/0": struct.pack(">12f", *range(12)), "byteorder": b"big"}
    )
    assert read(content, tmp_path).tolist() == [0, 1]


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_values_beside_tensors_become_plain_ones(protocol, tmp_path):
    values = [np.float64(83.5), np.float32(1.5), np.bool_(True), np.int64(-3), b"\x00\xff", {1, 2}, 2**70, "ä", None]
    values += [{"milestones": collections.Counter([3, 5])}, [(), [], {}], collections.OrderedDict(a=1)]
    found = read(zipped(pickle.dumps(values, protocol)), tmp_path)
    assert found == values
    assert [type(value) for value in found[:4]] == [float, float, bool, int]


def test_namespaces_and_configs_become_dictionaries(tmp_path):
    config = b"cyacs.config\nCfgNode\n)\x81(" + op("A") + op({"B": [1]}) + b"u" + op({"__immutable__": True}) + b"b"
    pickled = b"\x80\x02(" + config + op(argparse.Namespace(lr=1.0)) + called("torch device", op("cuda"), op(0))
    found = read(zipped(pickled + b"ctorch\nfloat16\n" + called("torch Size", op((2, 3))) + b"t."), tmp_path)
    assert found == ({"A": {"B": [1]}}, {"lr": 1.0}, "cuda:0", "torch.float16", (2, 3))


@pytest.mark.parametrize("protocol", [2, 4])
def test_paths_in_settings_become_text(protocol, tmp_path):
    settings = argparse.Namespace(out=Path("runs") / "detr", root=Path("/data"))
    found = read(zipped(pickle.dumps({"args": settings}, protocol)), tmp_path)
    assert found["args"] == {"out": "runs/detr", "root": "/data"}


def test_dictionaries_of_old_pythons_are_read(tmp_path):
    """Python 2 gave the items of an OrderedDict as lists, and its text as bytes."""
    pickled = b"\x80\x02" + called("collections OrderedDict", b"](]" + b"(U\x01a" + op(1) + b"ee")
    assert read(zipped(pickled + b"."), tmp_path) == {"a": 1}


SYSTEM = b"cos\nsystem\n"


def attacks(command: str) -> dict[str, tuple[bytes, bool]]:
    """Pickles that are up to no good, and whether the pickle module would execute the command in them."""
    text, evaluated = op(command), op(f"__import__('os').system({command!r})")
    proto, rebuild, namespace = b"\x80\x04", b"ctorch._utils\n_rebuild_tensor_v2\n", b"cargparse\nNamespace\n"
    imported = called("importlib import_module", op("os"))
    return {
        "reduce": (SYSTEM + b"(" + text + b"tR", True),
        "reduce_posix": (called("posix system", text), True),
        "eval": (called("__builtin__ eval", evaluated), True),
        "inst": (b"(S" + repr(command).encode() + b"\nios\nsystem\n", True),
        "obj": (b"(" + SYSTEM + text + b"o", True),
        "stack_global": (proto + op("os") + op("system") + b"\x93(" + text + b"tR", True),
        "getattr": (called("__builtin__ getattr", imported, op("system")) + b"(" + text + b"tR", True),
        "dotted": (proto + op("collections") + op("OrderedDict.fromkeys") + b"\x93(" + op([1]) + b"tR", False),
        "globals": (proto + op("torch._utils") + op("_rebuild_tensor_v2.__globals__") + b"\x93", False),
        "as_storage": (tensor(0, (1,), (1,), storage=SYSTEM + b"(" + text + b"tR"), False),
        "as_key": (b"}" + SYSTEM + b"(" + text + b"tR" + op(1) + b"s", True),
        "apply": (called("functools partial", SYSTEM, text) + b"(tR", True),
        "copyreg": (called("copyreg _reconstructor", namespace, b"c__builtin__\nobject\n", op(None)), False),
        "copyreg_extension": (called("copyreg add_extension", op("os"), op("system"), op(240)), False),
        "extension": (b"\x82\xf0", False),
        "new": (b"csubprocess\nPopen\n" + op((["touch"],)) + b"\x81", False),
        "new_with_names": (b"ccollections\nOrderedDict\n)}\x92", False),
        "new_of_function": (rebuild + b")\x81", False),
        "new_with_arguments": (namespace + op((1,)) + b"\x81", False),
        "call_of_class": (called("argparse Namespace"), False),
        "call_of_instance": (b"}(tR", False),
        "call_of_storage_type": (called("torch FloatStorage", op(10)), False),
        "state_of_function": (rebuild + b"N}" + op("__defaults__") + op((1,)) + b"s\x86b", False),
        "state_of_tensor": (tensor(0, (1,), (1,)) + op((1, (1,), None, False, b"")) + b"b", False),
        "state_of_dictionary": (b"}" + op({"__class__": 1}) + b"b", False),
        "state_of_namespace": (namespace + b")\x81" + op({"__class__": 1}) + b"b", False),
        "slots_of_namespace": (namespace + b")\x81" + op((None, {"__class__": 1})) + b"b", False),
        "items_of_tensor": (tensor(0, (1,), (1,)) + op(0) + op(0) + b"s", False),
        "items_of_namespace": (namespace + b")\x81" + op("__class__") + op(0) + b"s", False),
        "append_to_function": (rebuild + text + b"a", False),
        "objects_of_numpy": (called("numpy dtype", op("O8"), op(False), op(True)), False),
        "encoded": (called("_codecs encode", text, op("rot13")), False),
        "persistent_text": (b"Pos.system\n", False),
        "persistent_name": (op("os.system") + b"Q", False),
        "persistent_function": (SYSTEM + b"Q", False),
        "persistent_module": (b"(" + op("module") + b"ctorch\nFloatStorage\n" + text + text + b"tQ", False),
        "persistent_kind": (stored("0", 1, kind="Size"), False),
        "persistent_key": (stored(0, 1), False),
        "persistent_size": (stored("0", -1), False),
        "persistent_path": (stored("../x", 2**60), False),
    }  # fmt: skip


class Willing(pickle.Unpickler):
    """What executes attacks: the pickle module, told nothing."""

    def persistent_load(self, pid):
        return pid


@pytest.mark.parametrize("name", attacks(""))
def test_no_attack_is_executed(name, tmp_path):
    sentinel = tmp_path / "executed"
    pickled, works = attacks(f"touch {sentinel}")[name]
    pickled = pickled if pickled.startswith(b"\x80") else b"\x80\x02" + pickled
    for container in (zipped, legacy):
        with pytest.raises(DataError, match=r"it\.pth"):
            read(container(pickled + b"."), tmp_path)
        assert not sentinel.exists()
    if works:
        Willing(io.BytesIO(pickled + b".")).load()
        assert sentinel.exists()


def test_what_is_forbidden_is_named(tmp_path):
    with pytest.raises(DataError, match=r"names 'os\.system', which is not known to be harmless"):
        read(zipped(b"\x80\x02" + SYSTEM + b"."), tmp_path)


@pytest.mark.parametrize(
    ("offset", "size", "stride"),
    [
        (0, (13,), (1,)),
        (12, (1,), (1,)),
        (2**62, (1,), (1,)),
        (2**70, (1,), (1,)),
        (-1, (1,), (1,)),
        (0, (2,), (-1,)),
        (0, (-1,), (1,)),
        (0, (2,), (2**62,)),
        (0, (2**31, 3), (2**33, 4)),
        (0, (2**40,), (0,)),
        (0, (2**62, 2**62, 0), (1, 1, 1)),
        (0, (2, 2), (1,)),
        (0, (1.0,), (1,)),
        (0, 3, 1),
        (0, (1,) * 100, (1,) * 100),
    ],
)
def test_tensors_do_not_reach_beyond_their_storage(offset, size, stride, tmp_path):
    with pytest.raises(DataError):
        read(zipped(b"\x80\x02" + tensor(offset, size, stride) + b"."), tmp_path)


def test_tensors_may_repeat_their_storage_or_be_empty(tmp_path):
    pickled = b"\x80\x02" + tensor(3, (2, 5), (1, 0)) + tensor(12, (0, 3), (3, 1)) + b"\x86."
    assert [array.shape for array in read(zipped(pickled), tmp_path)] == [(2, 5), (0, 3)]


def test_values_that_hold_themselves_many_times_over_are_shown_short(tmp_path):
    doubled = b"N" + b"q\x00h\x00\x86" * 100
    for end in (b"Q.", b"}b.", b")R.", b")\x81."):
        with pytest.raises(DataError) as caught:
            read(zipped(b"\x80\x02" + doubled + end), tmp_path)
        assert len(str(caught.value)) < 2000


@pytest.mark.parametrize("form", MADE)
def test_files_cut_short_are_errors(form, tmp_path):
    for length in [*range(1, len(MADE[form]), 29), len(MADE[form]) - 1]:
        with pytest.raises(DataError, match=r"it\.pth"):
            read(MADE[form][:length], tmp_path)


@pytest.mark.parametrize("form", MADE)
def test_damage_is_never_another_error(form, tmp_path):
    rng = np.random.default_rng(0)
    for position in rng.integers(0, len(MADE[form]), 300):
        content = bytearray(MADE[form])
        content[position] = rng.integers(256)
        try:
            read(bytes(content), tmp_path)
        except DataError as error:
            assert str(error).startswith(str(tmp_path / "it.pth"))


def test_a_damaged_storage_in_a_zip_file_is_seen(tmp_path):
    weight = MADE["zipped"].index(np.arange(12, dtype=np.float32).tobytes())
    content = bytearray(MADE["zipped"])
    content[weight + 6] ^= 1
    with pytest.raises(DataError, match="is damaged"):
        read(bytes(content), tmp_path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"hello there", "is text that begins with 'hello there'"),
        (b"\n<!DOCTYPE html><html><title>Google Drive - Virus scan warning</title>", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00", "git lfs pull"),
        (b"storages".ljust(257, b"\0") + b"ustar" + bytes(300), "is a tar archive, as torch wrote until 2017"),
        (b"\x89HDF\r\n\x1a\n" + bytes(20), "is an HDF5 file, as Keras writes"),
        (b"\x93NUMPY\x01\x00v\x00", "is a single NumPy array"),
        (b"\x1f\x8b\x08\x00", "is compressed with gzip; unpack it first"),
        (b'{"weight_map": {}}', "is JSON, as settings and lists of parts are"),
        (b"\x00\x01\x02\x03", "begins with the bytes 00 01 02 03"),
        (pickle.dumps({"model": {}}, 2), "is a pickle that torch.save did not write"),
        (pickle.dumps(np.ones(3), 2), "names 'numpy.*_reconstruct'"),
        (b"PK\x03\x04" + bytes(100), "is a zip file without its end"),
        (zipped(b"", **{"constants.pkl": b""}), "is a program of TorchScript"),
        (zipped(b"\x80\x02N."), None),
    ],
)
def test_what_is_no_such_file_is_told_apart(content, said, tmp_path):
    if said is None:
        assert read(content, tmp_path) is None
        return
    with pytest.raises(DataError, match=said):
        read(content, tmp_path)


def test_other_zip_files_and_missing_files_are_told_apart(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("folder/photo.jpg", b"")
    with pytest.raises(DataError, match=r"it has no data\.pkl, but \['folder/photo\.jpg'\]"):
        read_pth(tmp_path / "x.zip")
    with pytest.raises(DataError, match="cannot be read: No such file"):
        read_pth(tmp_path / "missing.pth")
    with pytest.raises(DataError, match="cannot be read: Is a directory"):
        read_pth(tmp_path)


DTYPES = ["f8", "f4", "f2", ml_dtypes.bfloat16, "i8", "i4", "i2", "i1", "u1", "?"]
SHAPES = arrays_of.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.sampled_from(DTYPES), SHAPES, st.booleans()), max_size=5), st.binary(min_size=8, max_size=8)
)
def test_what_is_written_comes_back_bit_by_bit(tmp_path, kinds, noise):
    tensors = {}
    for index, (dtype, shape, turned) in enumerate(kinds):
        count = int(np.prod(shape))
        content = np.resize(np.frombuffer(noise, np.uint8), count * np.dtype(dtype).itemsize)
        array = (content % 2 if dtype == "?" else content).view(dtype).reshape(shape)
        tensors[f"layer.{index}.weight"] = array.T if turned else array
    write_pth(tmp_path / "it.pth", tensors)
    found = read_pth(tmp_path / "it.pth")
    assert type(found) is collections.OrderedDict
    assert list(found) == list(tensors)
    for name, array in tensors.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        assert found[name].tobytes() == array.tobytes()


SOME = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.array(7), "c": np.zeros((0, 2), np.float16)}


def test_the_same_tensors_give_the_same_bytes(tmp_path):
    """The pickle is pinned: torch.load(weights_only=True) of torch 2.13 read it, also with mmap=True."""
    write_pth(tmp_path / "one.pth", SOME, under="model")
    write_pth(tmp_path / "two.pth", SOME, under="model")
    assert (tmp_path / "one.pth").read_bytes() == (tmp_path / "two.pth").read_bytes()
    with zipfile.ZipFile(tmp_path / "one.pth") as archive:
        assert [name.removeprefix("archive/") for name in archive.namelist()] == [
            *("data.pkl", "byteorder", "data/0", "data/1", "data/2", "version"),
        ]
        assert zlib.crc32(archive.read("archive/data.pkl")) == 472179922
    assert list(read_pth(tmp_path / "one.pth")) == ["model"]


def test_storages_are_aligned(tmp_path):
    write_pth(tmp_path / "it.pth", SOME)
    content = (tmp_path / "it.pth").read_bytes()
    assert content.index(SOME["a"].tobytes()) % 64 == 0
    assert content.index(SOME["b"].tobytes()) % 64 == 0


def test_big_endian_arrays_are_written_as_others_are(tmp_path):
    write_pth(tmp_path / "it.pth", {"a": SOME["a"].astype(">f4")})
    np.testing.assert_array_equal(read_pth(tmp_path / "it.pth")["a"], SOME["a"])


def test_a_tensor_that_torch_does_not_know_is_an_error(tmp_path):
    with pytest.raises(DataError, match="cannot hold x, which is complex64; tensors of torch are float64, float32"):
        write_pth(tmp_path / "it.pth", {"x": np.zeros(2, np.complex64)})
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_was_there_stays_when_writing_fails(tmp_path, monkeypatch):
    def full(self, info, content):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = tmp_path / "it.pth"
    path.write_bytes(b"before")
    with monkeypatch.context() as patch:
        patch.setattr(zipfile.ZipFile, "writestr", full)
        with pytest.raises(DataError, match=r"it\.pth cannot be written: No space left on device"):
            write_pth(path, SOME)
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(DataError, match="cannot be written"):
        write_pth(path / "below.pth", SOME)
    write_pth(path, SOME)
    assert list(tmp_path.iterdir()) == [path]
