"""What a mistyped path most likely means, of what lies on this machine."""

import difflib
import os
from pathlib import Path


def near_path(path: Path) -> Path | None:
    """What lies nearest to a path that is not there; None where no name is similar.

    Every part of it is taken as it is, or as the most similar name beside it. A single name is also looked for in
    runs/, where runs are kept.
    """
    kept = Path("runs", path)
    if len(path.parts) > 1:
        return _nearest(path)
    return kept if kept.exists() else _nearest(path) or _nearest(kept)


def _nearest(path: Path) -> Path | None:
    found = Path(path.anchor)
    for part in path.relative_to(found).parts:
        names = [part]
        if not (found / part).exists():
            try:
                names = difflib.get_close_matches(part, os.listdir(found), n=1)
            except OSError:  # a file, or a folder of somebody else's
                names = []
        if not names:
            return None
        found /= names[0]
    return found


def did_you_mean(path: Path) -> str:
    """A sentence with what lies nearest to a path that is not there, a blank before it; "" where nothing does."""
    near = None if path.exists() else near_path(path)
    return "" if near is None else f" Did you mean {near}?"
