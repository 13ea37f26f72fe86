"""JAX's compilation cache for the commands: what one start compiles the next reads from the user's cache folder.

Whoever has set JAX up, by variables of the environment or as the program that calls a command, keeps what was set.
"""

import hashlib
import os
import platform
import re
import sys
import warnings
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from vitjax.ops.processors import processors

OFF = "--no-compilation-cache"
COMPILING = ("train", "evaluate", "predict", "explain", "export", "benchmark", "convert")
"""The commands that compile programs."""

_ROOM = 2 * 2**30  # bytes; beyond it what was used longest ago goes
_LEAST_SECONDS = 0.05  # to compile; JAX's own second leaves out much of what a small model needs
_VARIABLE, _ENABLED = "JAX_COMPILATION_CACHE_DIR", "JAX_ENABLE_COMPILATION_CACHE"
_KERNELS = Path(__file__).parents[1] / "ops" / "kernels"
_DAMAGED = re.compile(r"Error reading persistent compilation cache entry for '(.+?)'")


def keeping_programs(command: str, words: Sequence[str]) -> list[str]:
    """The words without `--no-compilation-cache`; JAX is set up for the command before it is imported."""
    if OFF in words:
        os.environ[_ENABLED] = "false"
    elif command in COMPILING and not ("jax" in sys.modules or _VARIABLE in os.environ or _is_off()):
        folder = _user_cache() / "vitjax" / "compiled" / _kind()
        if fault := _fault(folder):
            told = f"note: compiled programs are not kept: {folder} {fault}; {OFF} leaves this out"
            print(told, file=sys.stderr, flush=True)
        else:
            os.environ[_VARIABLE] = str(folder)
            os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", str(_LEAST_SECONDS))
            # What divides a kernel among devices is known to JAX by its address, which is another at every start.
            os.environ.setdefault("JAX_REMOVE_CUSTOM_PARTITIONING_PTR_FROM_CACHE_KEY", "1")
            _forget_oldest(folder.parent)
            _mend_from_now_on(folder)
    return [word for word in words if word != OFF]


def _is_off() -> bool:
    return os.environ.get(_ENABLED, "1").lower() in ("0", "n", "no", "f", "false", "off")


def _user_cache() -> Path:
    """The folder of the user's caches, by the conventions of the system."""
    named = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(named):  # others are to be ignored, says the convention
        return Path(named)
    if local := os.environ.get("LOCALAPPDATA", ""):
        return Path(local)
    return Path(os.path.expanduser("~"), "Library/Caches" if sys.platform == "darwin" else ".cache")


def _kind() -> str:
    """A name for what JAX leaves out of a program's key: a home may be that of many machines, and outlive our kernels.

    Processors that run the same machine code, as many of them, for XLA's loops are divided among those that it has when
    it compiles, and the kernels that are divided among devices.
    """
    known = hashlib.sha256(str(processors()).encode())
    with suppress(OSError):
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
        if found := re.search(r"^(?:flags|Features)\s*:(.*)$", text, re.MULTILINE):
            known.update(" ".join(sorted(found[1].split())).encode())
    for path in sorted(_KERNELS.glob("*.py")):
        known.update(path.read_bytes())
    return f"{platform.machine() or 'any'}-{known.hexdigest()[:12]}"


def _fault(folder: Path) -> str | None:
    """Why programs cannot be kept in the folder, which is made; whoever writes there decides what is run here."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        probe = folder / f".{os.getpid()}"
        probe.touch()
        probe.unlink()
        status = folder.stat()
    except OSError as error:
        return f"cannot be written: {error.strerror}"
    if hasattr(os, "getuid") and (status.st_uid != os.getuid() or status.st_mode & 0o022):
        return "belongs to another user, or others may write there"
    return None


def _forget_oldest(folder: Path, room: int = _ROOM) -> None:
    """Deletes what was used longest ago, until the rest has room; another process may do so at the same time."""
    found = list[tuple[float, int, Path]]()
    for path in folder.rglob("*"):
        with suppress(OSError):
            if path.is_file():
                status = path.stat()
                found.append((max(status.st_atime, status.st_mtime), status.st_size, path))
    total = sum(size for _, size, _ in found)
    for _, size, path in sorted(found):
        if total <= room:
            break
        with suppress(OSError):
            path.unlink()
        total -= size


def _mend_from_now_on(folder: Path) -> None:
    """Deletes what JAX warns that it cannot read, as after a kill or on a full disk; JAX would keep it for ever."""
    show = warnings.showwarning

    def mending(message: Warning | str, *rest: Any, **named: Any) -> None:
        found = _DAMAGED.match(str(message))
        if found is None:
            return show(message, *rest, **named)
        for path in folder.glob(f"{_escaped(found[1])}-*"):
            path.unlink(missing_ok=True)
        told = f"note: a compiled program in {folder} was damaged; {found[1]} is compiled anew"
        print(told, file=sys.stderr, flush=True)

    warnings.showwarning = mending


def _escaped(name: str) -> str:
    return re.sub(r"([*?[])", r"[\1]", name)
