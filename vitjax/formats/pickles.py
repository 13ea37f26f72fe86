"""Pickles of checkpoints, read without executing them.

A pickle is a program for a small stack machine. The machine here knows plain values only, and for the few names that
checkpoints need it makes values of its own: what a file names is never imported, called or given a state.
"""

import math
import pickletools
import reprlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np

STORAGES: dict[str, np.dtype] = {
    "torch.DoubleStorage": np.dtype("<f8"),
    "torch.FloatStorage": np.dtype("<f4"),
    "torch.HalfStorage": np.dtype("<f2"),
    "torch.BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "torch.LongStorage": np.dtype("<i8"),
    "torch.IntStorage": np.dtype("<i4"),
    "torch.ShortStorage": np.dtype("<i2"),
    "torch.CharStorage": np.dtype("i1"),
    "torch.ByteStorage": np.dtype("u1"),
    "torch.BoolStorage": np.dtype("?"),
}
"""The classes of torch that hold the elements of tensors, and of what type these are."""

Storages = Callable[[str, np.dtype, int], np.ndarray]
"""Gives the elements of a storage by its key, their type and their number."""

_DTYPES = {f"torch.{dtype.name}" for dtype in STORAGES.values()}
_NUMBERS = ("b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")  # NumPy's names
_REPEATED = 2**24  # most elements of a tensor that repeats those of a smaller storage


class Refused(ValueError):
    """A pickle does what is not done for it; the message goes on from the name of the file."""


class Namespace(dict[str, Any]):
    """The attributes of an `argparse.Namespace`."""


class CfgNode(dict[Any, Any]):
    """The items of a `yacs.config.CfgNode`."""


def run_pickle(file: BinaryIO, storages: Storages) -> Any:
    """The value that the pickle at the file's position makes; the file is then behind its end.

    Tensors are read-only views of what `storages` gives. Damaged pickles raise any error that reading values can.

    Raises:
        Refused: it names or does anything that no checkpoint needs.
    """
    return _Machine(file, storages).run()


@dataclass(frozen=True)
class _Global:
    """A name in a pickle; it stands for nothing until it is looked up in a table here."""

    name: str


class _Machine:
    """The stack, the memo and what the opcodes do to them."""

    def __init__(self, file: BinaryIO, storages: Storages) -> None:
        self._file, self._storages = file, storages
        self._stack: list[Any] = []
        self._below: list[list[Any]] = []  # the stacks under the marks
        self._memo: dict[int, Any] = {}

    def run(self) -> Any:
        for opcode, argument, _ in pickletools.genops(self._file):
            name = opcode.name
            if name == "STOP":
                break
            if name in _NEW:
                self._stack.append(_NEW[name]())
            elif name in _LITERALS:
                self._stack.append(argument)
            elif name in _STEPS:
                _STEPS[name](self, argument)
            elif name not in ("PROTO", "FRAME"):
                raise Refused(f"uses the pickle opcode {name}, which no checkpoint needs; nothing of it was executed.")
        return self._stack.pop()

    def mark(self) -> None:
        self._below.append(self._stack)
        self._stack = []

    def items(self) -> list[Any]:
        """What lies above the last mark, which goes."""
        items, self._stack = self._stack, self._below.pop()
        return items

    def push(self, value: Any) -> None:
        self._stack.append(value)

    def taken(self, count: int) -> list[Any]:
        """The topmost values, which go."""
        return [self._stack.pop() for _ in range(count)][::-1]

    def remember(self, index: int | None = None) -> None:
        self._memo[len(self._memo) if index is None else index] = self._stack[-1]

    def recall(self, index: int) -> None:
        self.push(self._memo[index])

    def fill(self, items: list[Any]) -> None:
        """Adds to the list, set or mapping on top."""
        target: Any = self._stack[-1]
        if type(target) is list:
            target.extend(items)
        elif type(target) is set:
            target.update(map(_key, items))
        elif type(target) in (dict, OrderedDict, CfgNode):
            for key, value in zip(items[::2], items[1::2], strict=True):
                target[_key(key)] = value
        else:
            raise Refused(f"adds items to a {type(target).__name__}; nothing of it was executed.")

    def name(self, name: str) -> None:
        if name not in _CALLS and name not in _CLASSES and name not in STORAGES and name not in _DTYPES:
            raise Refused(
                f"names {name[:200]!r}, which is not known to be harmless, so nothing of it was executed; "
                "with torch, load it and save the state_dict() alone."
            )
        self.push(name if name in _DTYPES else _Global(name))

    def stack_name(self) -> None:
        parts = self.taken(2)
        if any(type(part) is not str for part in parts):
            raise Refused("names something by what is no text; nothing of it was executed.")
        self.name(".".join(parts))

    def call(self) -> None:
        function, arguments = self.taken(2)
        if type(function) is not _Global or function.name not in _CALLS or type(arguments) is not tuple:
            raise Refused(f"calls {_shown(function)}, which is no function known here; nothing of it was executed.")
        self.push(_CALLS[function.name](*arguments))

    def instance(self) -> None:
        kind, arguments = self.taken(2)
        if type(kind) is not _Global or kind.name not in _CLASSES or type(arguments) is not tuple or arguments:
            raise Refused(f"makes an instance of {_shown(kind)}, which is no class known here.")
        self.push(_CLASSES[kind.name]())

    def state(self) -> None:
        """Sets what an object is beside its items; only that of a Namespace and of a NumPy dtype says anything."""
        state, target = self._stack.pop(), self._stack[-1]
        if type(target) is Namespace and type(state) is dict:
            if strange := [key for key in state if type(key) is not str or key.startswith("__")]:
                raise Refused(f"has settings with the name {_shown(strange[0])}, which no program has.")
            target.update(state)
        elif isinstance(target, np.dtype):
            if state[1] not in ("<", "|", "="):
                raise Refused("has NumPy numbers of the byte order of other machines.")
        elif type(target) not in (OrderedDict, CfgNode):
            raise Refused(f"sets the state of a {type(target).__name__}; nothing of it was executed.")

    def storage(self) -> None:
        wanted = self._stack.pop()
        match wanted:
            case ("storage", _Global(kind), str(key), _, int(size), *views) if kind in STORAGES and size >= 0:
                storage = self._storages(key, STORAGES[kind], size)
            case _:
                raise Refused(f"refers to {_shown(wanted)}, which is no storage of a tensor.")
        match views:
            case [] | [None]:
                self.push(storage)
            case [(_, int(offset), int(length))] if 0 <= offset <= offset + length <= size:
                self.push(storage[offset : offset + length])
            case _:
                raise Refused(f"refers to a part {_shown(views)} of a storage of {size} elements.")


def _shown(value: Any) -> str:
    return value.name if type(value) is _Global else reprlib.repr(value)  # what is nested is cut off


def _key(key: Any) -> Any:
    """The key, if it is of a kind that can safely be hashed."""
    if all(isinstance(part, str | bytes | int | float | None) for part in (key if type(key) is tuple else (key,))):
        return key
    raise Refused(f"has a {type(key).__name__} as a key, where names and numbers are.")


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> np.ndarray:
    """The view of a storage that a tensor is; NumPy checks that it lies within."""
    numbers = (offset, *size, *stride)
    if type(storage) is not np.ndarray or any(type(number) is not int or number < 0 for number in numbers):
        raise Refused(f"has a tensor of offset, size and stride {_shown(numbers)}.")
    if math.prod(size) > max(storage.size, _REPEATED):
        raise Refused(f"has a tensor of size {_shown(size)} in a storage of {storage.size} elements.")
    width = storage.itemsize
    strides = tuple(step * width for step in stride)
    if 0 in size:
        array = np.empty(size, storage.dtype)
    else:
        array = np.ndarray(size, storage.dtype, storage.view(np.uint8), offset * width, strides)
    array.flags.writeable = False
    return array


def _parameter(tensor: Any, *_: Any) -> np.ndarray:
    if type(tensor) is not np.ndarray:
        raise Refused(f"has a {type(tensor).__name__} as a parameter.")
    return tensor


def _bytes(text: str = "", encoding: str = "latin1") -> bytes:
    """Bytes as old pickles hold them: as text, of which every character is a byte."""
    if type(text) is not str or encoding != "latin1":
        raise Refused(f"has bytes encoded as {_shown(encoding)}.")
    return text.encode("latin1")


def _device(kind: Any, index: Any = None) -> str:
    return str(_key(kind)) if index is None else f"{_key(kind)}:{_key(index)}"


def _path(*parts: Any) -> str:
    """A path as text, for settings hold such."""
    return str(PurePosixPath(*(str(_key(part)) for part in parts)))


def _number_type(name: Any, *_: Any) -> np.dtype:
    if name not in _NUMBERS:
        raise Refused(f"has a NumPy value of the type {_shown(name)}, which is no number.")
    return np.dtype(name)


def _number(dtype: Any, content: Any) -> int | float | bool:
    content = content.encode("latin1") if type(content) is str else content
    if not isinstance(dtype, np.dtype) or type(content) is not bytes or len(content) != dtype.itemsize:
        raise Refused(f"has a NumPy number of the type {_shown(dtype)} that is none.")
    return np.frombuffer(content, dtype)[0].item()


_NEW: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "EMPTY_SET": set,
}
_LITERALS = set(
    "INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING UNICODE BINUNICODE "
    "SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8".split()
)
_STEPS: dict[str, Callable[[_Machine, Any], None]] = {
    "MARK": lambda machine, _: machine.mark(),
    "TUPLE": lambda machine, _: machine.push(tuple(machine.items())),
    "TUPLE1": lambda machine, _: machine.push(tuple(machine.taken(1))),
    "TUPLE2": lambda machine, _: machine.push(tuple(machine.taken(2))),
    "TUPLE3": lambda machine, _: machine.push(tuple(machine.taken(3))),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), _Machine.remember),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), _Machine.recall),
    "MEMOIZE": lambda machine, _: machine.remember(),
    "APPEND": lambda machine, _: machine.fill(machine.taken(1)),
    "SETITEM": lambda machine, _: machine.fill(machine.taken(2)),
    **dict.fromkeys(("APPENDS", "SETITEMS", "ADDITEMS"), lambda machine, _: machine.fill(machine.items())),
    "GLOBAL": lambda machine, argument: machine.name(argument.replace(" ", ".")),
    "STACK_GLOBAL": lambda machine, _: machine.stack_name(),
    "REDUCE": lambda machine, _: machine.call(),
    "NEWOBJ": lambda machine, _: machine.instance(),
    "BUILD": lambda machine, _: machine.state(),
    "BINPERSID": lambda machine, _: machine.storage(),
}
_CALLS: dict[str, Callable[..., Any]] = {
    **dict.fromkeys(("torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2"), _tensor),
    "torch._utils._rebuild_parameter": _parameter,
    "torch.Size": lambda sides: tuple(map(_key, sides)),
    "torch.device": _device,
    "collections.OrderedDict": lambda pairs=(): OrderedDict((_key(key), value) for key, value in pairs),
    # Of milestones, in the state of learning rate schedules.
    "collections.Counter": lambda counts: {_key(key): count for key, count in counts.items()},
    **dict.fromkeys(("__builtin__.set", "builtins.set"), lambda items: set(map(_key, items))),
    **dict.fromkeys(("__builtin__.bytes", "_codecs.encode"), _bytes),
    "numpy.dtype": _number_type,
    **dict.fromkeys(("pathlib.PosixPath", "pathlib.WindowsPath", "pathlib._local.PosixPath"), _path),
    **dict.fromkeys(("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar"), _number),
}
_CLASSES: dict[str, Callable[[], Any]] = {
    "argparse.Namespace": Namespace,
    "yacs.config.CfgNode": CfgNode,
    "collections.OrderedDict": OrderedDict,
}
