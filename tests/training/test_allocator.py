import ctypes
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from vitjax.training.allocator import give_back_freed


def resident() -> int:
    """Bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(
    not sys.platform.startswith("linux") or not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="glibc"
)
def test_the_system_has_what_is_free_between_what_is_not():
    arrays = [np.ones(64_000, np.uint8) for _ in range(3_000)]
    kept = arrays[::100]
    arrays.clear()
    before = resident()
    give_back_freed()
    assert before - resident() > 100e6 and len(kept) == 30
