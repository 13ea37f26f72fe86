"""Files that are replaced as a whole: whoever reads sees the old content or the new, also after a crash."""

import os
from contextlib import suppress
from pathlib import Path


def replace_text(path: Path, text: str) -> None:
    """Writes the text to the path; a file that is there stays as it is until the new one is whole on the disk.

    Raises:
        OSError: it cannot be written, as on a full disk; what was there stays.
    """
    fresh = path.with_name(f"{path.name}.part")
    try:
        with fresh.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except OSError:
        with suppress(OSError):
            fresh.unlink()
        raise
