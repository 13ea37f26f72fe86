"""Seconds from a command to its first step, with JAX's compilation cache empty and then as the first left it.

    python benchmarks/warm_start.py detr_resnet50_coco --data.root /data/voc --from-scratch ...

Every word is one of `train.py`. Each of the two runs begins anew in a folder of its own, and ends at the line of its
first step that is told: every fiftieth of all steps is, so say as few epochs as make 50 steps.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

_TRAIN = Path(__file__).resolve().parent.parent / "train.py"


def main(words: list[str]) -> None:
    """Prints a line for each start: wall clock and CPU seconds."""
    with tempfile.TemporaryDirectory() as folder:
        cache = {**os.environ, "XDG_CACHE_HOME": f"{folder}/cache"}
        cache.pop("JAX_COMPILATION_CACHE_DIR", None)
        for name in ("cold", "warm"):
            wall, cpu = started([*words, "--workdir", f"{folder}/{name}"], cache)
            print(f"{name}: {wall:.1f} s, {cpu:.1f} s of CPU", flush=True)


def started(words: list[str], environment: dict[str, str]) -> tuple[float, float]:
    """Wall clock and CPU seconds until the first step of a run is told; the run ends there."""
    began = time.monotonic()
    run = subprocess.Popen(
        [sys.executable, str(_TRAIN), *words],
        env=environment,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    assert run.stderr is not None
    said = []
    for line in run.stderr:
        said.append(line)
        if line.startswith("step "):
            break
    wall = time.monotonic() - began
    run.kill()
    *_, used = os.wait4(run.pid, 0)
    if not said or not said[-1].startswith("step "):
        sys.exit("".join(said))
    return wall, used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main(sys.argv[1:])
