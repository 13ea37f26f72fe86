"""The bar of a terminal, where there is room for one."""

import os
from typing import Any

from tqdm import tqdm


def bar_on(stream: Any, total: int, initial: int) -> Any:
    """A bar of tqdm on a terminal; None on what is none, or has no rows and columns, where it would be garbage."""
    if not (stream.isatty() and _has_room(stream)):
        return None
    form = "{n_fmt}/{total_fmt} |{bar}| {percentage:3.0f}%{postfix}"
    return tqdm(total=total, initial=initial, file=stream, dynamic_ncols=True, miniters=1, bar_format=form)


def _has_room(stream: Any) -> bool:
    """Whether a terminal says that it has rows and columns; those of scripts, containers and CI say 0."""
    if os.environ.get("TERM") == "dumb":
        return False
    try:
        return min(os.get_terminal_size(stream.fileno())) > 0
    except (OSError, ValueError, AttributeError):  # no file of the system's
        return True
