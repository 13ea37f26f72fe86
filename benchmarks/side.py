"""One side of a comparison: does a piece of work for every line on its input, and answers each with a line.

`python -m benchmarks.side CORES MODULE JOB ARGUMENTS`: a function of `benchmarks.ours` or `benchmarks.rivals` with its
arguments in JSON, on the first so many of the cores that the process may use. The first answer, in JSON as all are, is
what is known of the work once it has been done; the others are seconds of CPU and on the clock, and the most memory so
far in bytes.
"""

import importlib
import json
import math
import os
import resource
import sys
import time
from typing import Any

LEAST = 0.2  # seconds that a repetition lasts at least, so that clocks and waiting do not count


def main(cores: int, module: str, job: str, arguments: dict[str, Any]) -> None:
    """Builds the work and answers until the input ends."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print is no answer
    if hasattr(os, "sched_setaffinity"):  # before libraries count the cores
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    began = time.process_time()
    work = getattr(importlib.import_module(f"benchmarks.{module}"), job)(**arguments)
    work.call()
    built = time.process_time() - began
    one = _timed(work.call, 1)["wall"]
    calls = max(1, math.ceil(LEAST / max(one, 1e-9)))
    print(json.dumps({"built": built, **work.facts}), file=answers)
    for _ in sys.stdin:
        work.call()  # memory that went back to the system while others worked has come again
        print(json.dumps(_timed(work.call, calls) | {"memory": _memory()}), file=answers)


def _timed(call: Any, calls: int) -> dict[str, float]:
    cpu, wall = time.process_time(), time.perf_counter()
    for _ in range(calls):
        call()
    return {"cpu": (time.process_time() - cpu) / calls, "wall": (time.perf_counter() - wall) / calls}


def _memory() -> int:
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3], json.loads(sys.argv[4]))
