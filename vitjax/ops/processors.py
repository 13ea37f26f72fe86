"""How many of the machine's processors there are for this process."""

import os


def processors() -> int:
    """Those that it may run on, where the system tells that; at least one."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
