"""Huge pages for the memory of a command, where Linux gives them to those who ask.

XLA takes a step's temporary memory anew every time, on a CPU a gigabyte or more, and Linux clears and maps whatever of
it is touched: page by page of 4 KiB this is up to a sixth of a training step. glibc asks for pages of 2 MiB in its
place if the environment of the process says so, which is read before Python begins.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

_VARIABLE, _TUNABLE = "GLIBC_TUNABLES", "glibc.malloc.hugetlb"
_OFFERS = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def with_huge_pages() -> None:
    """Starts the process anew, with the same words under the same number, if this gives it huge pages; else returns.

    Only a process that is this command and nothing more is started anew: no debugger, no program that calls a command.
    """
    if "jax" in sys.modules or not (_is_plain(sys.orig_argv, sys.argv) and _offered()):
        return
    if (environment := asking(os.environ)) is not None:
        with suppress(OSError):  # then it goes on as it is
            os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)


def asking(environment: Mapping[str, str]) -> dict[str, str] | None:
    """The environment of a process that asks for huge pages; None if this one says already whether it does."""
    said = environment.get(_VARIABLE, "")
    if _TUNABLE in said:
        return None
    return {**environment, _VARIABLE: ":".join(filter(None, [said, f"{_TUNABLE}=1"]))}


def _is_plain(started: Sequence[str], words: Sequence[str]) -> bool:
    """Whether Python was started as `python FILE WORD ...` or `python -m vitjax WORD ...`, with options or without."""
    given = list(started[1:])
    while given and given[0].startswith("-") and given[0][:2] not in ("-m", "-c"):
        del given[0]
    return given in (list(words), ["-m", "vitjax", *words[1:]])


def _offered() -> bool:
    """Whether the system gives huge pages to those who ask and to no others, and glibc knows how to: 2.35 or later."""
    with suppress(OSError, ValueError, AttributeError):  # AttributeError: Windows
        library, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").split()
        numbers = [int(number) for number in version.split(".")[:2]]
        return library == "glibc" and numbers >= [2, 35] and "[madvise]" in _OFFERS.read_text()
    return False
