"""Files of named tensors, in whichever of the usual formats: .pth, .safetensors, .npz."""

import dataclasses
import tokenize
import zipfile
from collections.abc import Mapping
from pathlib import Path

import ml_dtypes
import numpy as np
import safetensors
from safetensors.numpy import save

from vitjax.data.errors import DataError
from vitjax.data.folder import open_file
from vitjax.formats.checkpoint import model_of, state_in
from vitjax.formats.pickles import Refused
from vitjax.formats.pth import BROKEN, found_in, read_pth, replacing, require_honest_sizes, write_pth
from vitjax.formats.tables import TensorFile

_SAFETENSORS = {
    **{"F64": np.dtype("<f8"), "F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": np.dtype(ml_dtypes.bfloat16)},
    **{f"{kind}{8 * width}": np.dtype(f"<{kind.lower()}{width}") for kind in "IU" for width in (1, 2, 4, 8)},
    "BOOL": np.dtype("?"),
}


def read_tensors(path: Path) -> TensorFile:
    """The tensors of a file of torch (.pth, .pt, .bin), safetensors or NumPy (.npz), told by its content.

    Of a checkpoint the model's state is taken, its averaged weights where it has them, without a "module." or
    "_orig_mod." before all names; the settings are those beside it, as plain dictionaries, or the metadata of
    safetensors. Arrays may be read-only and share their memory.

    Raises:
        DataError: it is none of these, it is damaged or names what may be harmful, or there are no tensors in it.
    """
    try:
        with open_file(path) as opened:
            head = opened.read(512)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error
    if head[8:9] == b"{":
        file = _read_safetensors(path)
    elif head.startswith(b"PK") and _is_npz(path):
        file = _read_npz(path)
    elif head.startswith((b"PK", b"\x80")):
        file = model_of(path, read_pth(path))
    else:
        raise DataError(f"{path} is no .pth, .safetensors or .npz file: it {found_in(head)}")
    if not file.tensors:
        raise DataError(f"{path} holds no tensors.")
    return dataclasses.replace(file, tensors=state_in(file.tensors), name=path.name)


def write_tensors(path: Path, tensors: Mapping[str, np.ndarray], *, under: str | None = None) -> None:
    """Writes a .pth or .safetensors file, as its suffix says; only .pth files can have the tensors `under` a name.

    Raises:
        DataError: the suffix is another, or the file cannot be written; one that was there stays.
    """
    if path.suffix == ".pth":
        write_pth(path, tensors, under=under)
    elif path.suffix == ".safetensors":
        arrays = {name: np.asarray(tensor, order="C") for name, tensor in tensors.items()}
        for name, array in arrays.items():
            if array.dtype.newbyteorder("<") not in _SAFETENSORS.values():
                raise DataError(f"{path} cannot hold {name}, which is {array.dtype}.")
        with replacing(path) as beside:
            beside.write_bytes(save(arrays, {"format": "pt"}))  # names and layouts are torch's; transformers asks
    else:
        raise DataError(f"tensors are written to .pth or .safetensors; {path} ends in neither.")


def _read_safetensors(path: Path) -> TensorFile:
    try:
        with safetensors.safe_open(path, framework="np") as file:
            settings = dict(file.metadata() or {})
        entries = safetensors.deserialize(path.read_bytes())
    except (safetensors.SafetensorError, OSError) as error:
        raise DataError(f"{path} is no whole .safetensors file: {error}.") from error
    tensors = {}
    for name, entry in entries:
        if entry["dtype"] not in _SAFETENSORS:
            raise DataError(f"{path} holds {name} as {entry['dtype']}; known are {', '.join(_SAFETENSORS)}.")
        tensors[name] = np.frombuffer(entry["data"], _SAFETENSORS[entry["dtype"]]).reshape(entry["shape"])
    return TensorFile(tensors, settings)


def _is_npz(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith(".npy") for name in archive.namelist())
    except (*BROKEN, OSError):
        return False


def _read_npz(path: Path) -> TensorFile:
    try:
        with zipfile.ZipFile(path) as archive:
            require_honest_sizes(archive, path.stat().st_size)
        with np.load(path, allow_pickle=False) as arrays:
            tensors = {name: array for name, array in arrays.items() if isinstance(array, np.ndarray)}
    except Refused as error:
        raise DataError(f"{path} {error}") from error
    except (*BROKEN, OSError, SyntaxError, tokenize.TokenError) as error:  # the last two: NumPy parses the headers
        raise DataError(f"{path} is no whole .npz file of numbers: {error}.") from error
    bfloat16 = np.dtype(ml_dtypes.bfloat16)  # NumPy writes it as any two bytes
    return TensorFile({name: a.view(bfloat16) if a.dtype == "V2" else a for name, a in tensors.items()}, {})
