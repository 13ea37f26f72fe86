"""Trains the tiny detector of tests/faults/kills.py in several processes on this machine, joined by gloo on the CPU."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

# One device in each process; a process that is to die does so as soon as the run has got to its step.
CHILD = """
import os, signal, sys
import jax
jax.config.update("jax_num_cpu_devices", int(sys.argv[1]))
jax.config.update("jax_disable_most_optimizations", True)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
from vitjax.commands.main import main
import vitjax.training.watch as watch
add, (number, last) = watch.Watch.add, map(int, sys.argv[2].split(","))
def added(self, step, parts, metrics):
    add(self, step, parts, metrics)
    if step == last:
        if number:
            os.kill(os.getpid(), number)
        else:
            raise RuntimeError("the roof is leaking")
watch.Watch.add = added
sys.exit(main(sys.argv[3:]))
"""
NEVER = (0, -1)


def start(words: list[str], *, devices: int = 1, end: tuple[int, int] = NEVER) -> subprocess.Popen[str]:
    """A command in a process of its own, which gets the signal `end[0]`, or 0 for an error, after the step `end[1]`."""
    root = Path(__file__).resolve().parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root), "JAX_PLATFORMS": "cpu"}
    ended = f"{end[0]},{end[1]}"
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, str(devices), ended, *words],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def together(
    words: list[str], hosts: int = 2, *, end: dict[int, tuple[int, int]] | None = None
) -> list[tuple[int, str]]:
    """The exit codes and what was printed of a command on several hosts, of which those in `end` are ended."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    if hosts == 1:
        started = [start(words)]
    else:
        places = [["--hosts", str(hosts), "--host", str(index), "--coordinator", address] for index in range(hosts)]
        started = [start([*words, *place], end=(end or {}).get(index, NEVER)) for index, place in enumerate(places)]
    try:
        return [(process.wait(), told) for process in started for told in [process.communicate(timeout=300)[0]]]
    finally:
        for process in started:
            process.kill()


def killed(step: int) -> tuple[int, int]:
    """The end of a process that is killed after a step."""
    return signal.SIGKILL, step
