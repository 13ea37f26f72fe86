"""Files of `torch.save` without torch: reading never executes what is in them, writing gives the same bytes every time.

Such a file is a pickle and the storages of the tensors in it.
"""

import contextlib
import io
import math
import os
import pickle
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from vitjax.data.errors import DataError
from vitjax.data.folder import open_file
from vitjax.formats.pickles import STORAGES, Refused, run_pickle

_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001  # how the files of torch before 1.6 begin
_ALIGNMENT = 64  # bytes; torch aligns its storages so too, that they can be mapped into memory
_SMALL, _MOST_TIMES = 2**26, 16  # what a zip file may always unpack to in bytes, and times its own size
_OTHERS = {  # what other files begin with
    b"\x89HDF": "an HDF5 file, as Keras writes; what can be read are weights of torch, safetensors and NumPy",
    b"\x93NUMPY": "a single NumPy array; save all tensors by their names with numpy.savez",
    b"\x1f\x8b": "compressed with gzip; unpack it first",
    b"{": "JSON, as settings and lists of parts are; give the file of the weights, or the folder that has both",
    b"GGUF": "a GGUF file; what can be read are weights of torch, safetensors and NumPy",
}
_ORDERED_DICT = b"ccollections\nOrderedDict\n)R"  # an empty one
BROKEN = (  # what reading damaged bytes can run into
    *(ValueError, TypeError, AttributeError, LookupError, OverflowError, MemoryError, EOFError, RuntimeError),
    *(struct.error, zlib.error, zipfile.BadZipFile),
)


def require_honest_sizes(archive: zipfile.ZipFile, size: int) -> None:
    """Passes where a zip file of so many bytes unpacks to what weights of its size can be.

    Raises:
        Refused: by the sizes that it declares, it unpacks to many times as much.
    """
    declared = sum(info.file_size for info in archive.infolist())
    if declared > max(_SMALL, _MOST_TIMES * size):
        raise Refused(
            f"is {size:,} bytes that unpack to {declared:,}, which weights do not; if you trust it, unpack it and save "
            "it again without compression."
        )


def read_pth(path: Path) -> Any:
    """What a file of `torch.save` holds, with read-only NumPy arrays for tensors; these may share their memory.

    Zip files are read, and those of torch before 1.6.

    Raises:
        DataError: it is no such file, it is damaged, or it names something that is not known to be harmless.
    """
    try:
        with open_file(path) as file:
            head = file.read(512)
            file.seek(0)
            if head.startswith(b"PK"):
                return _read_zip(file)
            if head.startswith(b"\x80"):
                return _read_legacy(file)
            raise Refused(f"is no file of torch.save: it {found_in(head)}")
    except Refused as error:
        raise DataError(f"{path} {error}") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error
    except BROKEN as error:
        raise DataError(f"{path} is damaged or cut short ({type(error).__name__}: {error}); get it again.") from error


def found_in(head: bytes) -> str:
    """What the first bytes of a file that is not what was wanted show it to be; goes on from the word 'it'."""
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if not head:
        return "is empty."
    if text.startswith((b"<!doctype", b"<html", b"<head", b"<?xml")):
        return "is a web page, as failed downloads leave behind; open the link in a browser and save the file itself."
    if text.startswith(b"version https://git-lfs"):
        return "only points to the file in Git LFS; run `git lfs pull`."
    if found := next((kind for start, kind in _OTHERS.items() if head.startswith(start)), None):
        return f"is {found}."
    if head[257:262] == b"ustar":
        return "is a tar archive, as torch wrote until 2017; load and save it with a newer torch first."
    if any(byte < 9 for byte in head):
        return f"begins with the bytes {head[:8].hex(' ')}."
    return f"is text that begins with {head[:40].decode('utf-8', 'replace')!r}."


def _read_zip(file: BinaryIO) -> Any:
    if not zipfile.is_zipfile(file):
        raise Refused("is a zip file without its end, so it was cut short; get it again.")
    with zipfile.ZipFile(file) as archive:
        require_honest_sizes(archive, os.fstat(file.fileno()).st_size)
        records = {info.filename.partition("/")[2]: info for info in archive.infolist()}
        if "constants.pkl" in records:
            raise Refused("is a program of TorchScript; with torch, save the model's state_dict() instead.")
        if "data.pkl" not in records:
            raise Refused(f"is a zip file, but not of torch.save: it has no data.pkl, but {archive.namelist()[:5]}.")
        swapped = "byteorder" in records and archive.read(records["byteorder"]) == b"big"
        contents: dict[str, bytes] = {}

        def storage(key: str, dtype: np.dtype, size: int) -> np.ndarray:
            if key not in contents:
                info = records[f"data/{key}"]
                if info.compress_type != zipfile.ZIP_STORED:
                    raise Refused(f"has its storage {key} compressed, which torch never does.")
                contents[key] = archive.read(info)
            if swapped:
                words = np.frombuffer(contents[key], f">u{dtype.itemsize}", size)
                return words.astype(f"<u{dtype.itemsize}").view(dtype)
            return np.frombuffer(contents[key], dtype, size)

        return run_pickle(io.BytesIO(archive.read(records["data.pkl"])), storage)


def _read_legacy(file: io.BufferedReader) -> Any:
    """The object comes first and then its storages: arrays are made for these, and filled at the end."""
    room = os.fstat(file.fileno()).st_size
    arrays: dict[str, np.ndarray] = {}

    def storage(key: str, dtype: np.dtype, size: int) -> np.ndarray:
        nonlocal room
        if key not in arrays:
            room -= size * dtype.itemsize
            if room < 0:
                raise Refused("is cut short: it has fewer bytes than its tensors need; get it again.")
            arrays[key] = np.empty(size, dtype)
        return arrays[key].view(dtype)

    def load() -> Any:
        return run_pickle(file, storage)

    if load() != _MAGIC or load() != _PROTOCOL:
        raise Refused("is a pickle that torch.save did not write; with torch, load it and save its tensors anew.")
    load()  # how wide integers were where it was written; storages are little-endian everywhere
    content, keys = load(), load()
    if any(type(key) is not str for key in keys) or sorted(keys) != sorted(arrays):
        raise Refused("is damaged: its storages are not those of its tensors; get it again.")
    for key in keys:
        (size,) = struct.unpack("<q", file.read(8))
        if size != arrays[key].size or file.readinto(arrays[key].view(np.uint8).data) != arrays[key].nbytes:
            raise Refused(f"is damaged or cut short in storage {key}; get it again.")
    return content


def write_pth(path: Path, tensors: Mapping[str, np.ndarray], *, under: str | None = None) -> None:
    """Writes what `torch.load` reads as an OrderedDict of tensors, or as a dictionary that has it `under` a name.

    Raises:
        DataError: torch has no type for an array, or the file cannot be written; one that was there stays.
    """
    arrays = {name: _storable(path, name, tensor) for name, tensor in tensors.items()}
    records: dict[str, Any] = {"data.pkl": _pickled(arrays, under), "byteorder": b"little"}
    records |= {f"data/{index}": array.reshape(-1).view(np.uint8) for index, array in enumerate(arrays.values())}
    records["version"] = b"3\n"
    with replacing(path) as beside, beside.open("wb") as file, zipfile.ZipFile(file, "w") as archive:
        for name, content in records.items():
            info = zipfile.ZipInfo(f"archive/{name}")  # dated 1980, whenever it is written
            info.create_system = 3
            padding = -(file.tell() + 30 + len(info.filename) + 4) % _ALIGNMENT  # behind the record's own header
            info.extra = struct.pack("<2sH", b"FB", padding) + b"Z" * padding
            archive.writestr(info, content)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A name beside `path`; what is written there takes the place of `path` if all goes well, and goes otherwise.

    Raises:
        DataError: it cannot be written.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield beside
        with beside.open("rb+") as file:
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror or error}.") from error
    finally:
        with contextlib.suppress(OSError):
            beside.unlink()


def _storable(path: Path, name: str, tensor: np.ndarray) -> np.ndarray:
    """The array as its bytes are written: in one piece, little-endian."""
    array = np.asarray(tensor, order="C")
    array = array.astype(array.dtype.newbyteorder("<")) if array.dtype.byteorder == ">" else array
    if array.dtype not in STORAGES.values():
        known = ", ".join(dtype.name for dtype in STORAGES.values())
        raise DataError(f"{path} cannot hold {name}, which is {array.dtype}; tensors of torch are {known}.")
    return array


def _pickled(arrays: Mapping[str, np.ndarray], under: str | None) -> bytes:
    """The pickle that makes the tensors, of protocol 2 and without a memo."""
    tensors = b"".join(_plain(name) + _tensor(str(key), array) for key, (name, array) in enumerate(arrays.items()))
    content = _ORDERED_DICT + b"(" + tensors + b"u"
    return b"\x80\x02" + (content if under is None else b"}" + _plain(under) + content + b"s") + b"."


def _tensor(key: str, array: np.ndarray) -> bytes:
    """The opcodes that make the tensor whose storage is the record `key`."""
    kind = next(name for name, dtype in STORAGES.items() if dtype == array.dtype).removeprefix("torch.")
    storage = b"(" + _plain("storage") + f"ctorch\n{kind}\n".encode() + _plain(key) + _plain("cpu")
    stride = tuple(math.prod(max(side, 1) for side in array.shape[axis + 1 :]) for axis in range(array.ndim))
    view = _plain(0) + _plain(array.shape) + _plain(stride) + _plain(False) + _ORDERED_DICT
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + _plain(array.size) + b"tQ" + view + b"tR"


def _plain(value: str | int | tuple[int, ...]) -> bytes:
    """The opcodes that make a plain value."""
    return pickle.dumps(value, protocol=2)[2:-1]
