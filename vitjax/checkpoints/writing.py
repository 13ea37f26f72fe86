"""Files that are replaced as a whole: whoever reads sees the old content or the new, also after a crash."""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO


def replace_text(path: Path, text: str) -> None:
    """Writes the text to the path as `replace_file` does."""
    replace_file(path, lambda file: file.write(text.encode()))


def replace_file(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Lets `write` make the file; one that is there stays as it is until the new one is whole on the disk.

    Raises:
        OSError: it cannot be written, as on a full disk; what was there stays.
    """
    fresh = path.with_name(f"{path.name}.part")
    try:
        with fresh.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except OSError:
        with suppress(OSError):
            fresh.unlink()
        raise
