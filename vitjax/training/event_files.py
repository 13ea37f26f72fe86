"""TensorBoard's event files."""

import os
import time
from pathlib import Path
from typing import Any

from tensorboardX import SummaryWriter


def writer_in(folder: Path, purge_step: int | None) -> Any:
    """A writer of a new file in the folder; events of others from `purge_step` on are void."""
    # The name of an event file has the second in it; without a suffix a quick restart would overwrite the last.
    suffix = f".{os.getpid()}.{time.time_ns()}"
    return SummaryWriter(str(folder), purge_step=purge_step, filename_suffix=suffix, flush_secs=30)
