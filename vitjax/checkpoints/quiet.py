"""What Orbax prints without need: it also raises what is wrong, and we say that in a sentence."""

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# Orbax logs much that is well, and pages of traces.
logging.getLogger("absl").addFilter(lambda entry: "orbax" not in entry.pathname)


@contextmanager
def without_stragglers() -> Iterator[None]:
    """Keeps reads and writes quiet that go on when another one fails: each would print that its loop is closed."""
    hook = sys.unraisablehook

    def without_closed_loops(event: Any) -> None:
        if "Event loop is closed" not in str(event.exc_value):
            hook(event)

    sys.unraisablehook = without_closed_loops
    try:
        yield
    except Exception:
        time.sleep(0.2)
        raise
    finally:
        sys.unraisablehook = hook
