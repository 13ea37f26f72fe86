"""Trains the tiny detector of tests/faults/kills.py in several processes on this machine, joined by gloo on the CPU."""

import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

# One device in each process; a process that is to die does so as soon as the run has got to its step.
CHILD = """
import os, signal, sys
import jax
jax.config.update("jax_num_cpu_devices", 1)
jax.config.update("jax_disable_most_optimizations", True)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
from vitjax.commands.main import main
import vitjax.training.shares as shares, vitjax.training.watch as watch
shares._SMALL = 16  # of these small arrays, too, each has a share where --fsdp asks for that
add, (number, last) = watch.Watch.add, map(int, sys.argv[1].split(","))
def added(self, step, parts, metrics):
    add(self, step, parts, metrics)
    if step == last:
        if number:
            os.kill(os.getpid(), number)
        else:
            raise RuntimeError("the roof is leaking")
watch.Watch.add = added
initialize = jax.distributed.initialize
def met(**given):
    initialize(**given)
    print("all hosts have met", flush=True)
jax.distributed.initialize = met
sys.exit(main(sys.argv[2:]))
"""


def killed(step: int) -> tuple[int, int]:
    """The end of a process that is killed after a step."""
    return signal.SIGKILL, step


def start(words: list[str], hosts: int, end: dict[int, tuple[int, int]]) -> list[subprocess.Popen[str]]:
    """A command on so many hosts; one in `end` gets the signal `end[0]`, or for 0 an error, after the step `end[1]`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2]), "JAX_PLATFORMS": "cpu"}
    started = []
    for index in range(hosts):
        place = ["--hosts", str(hosts), "--host", str(index), "--coordinator", address] if hosts > 1 else []
        ends = ",".join(map(str, end.get(index, (0, -1))))
        child = [sys.executable, "-c", CHILD, ends, *words, *place]
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        started.append(subprocess.Popen(child, env=environment, **streams))
    return started


def together(
    words: list[str], hosts: int = 2, end: dict[int, tuple[int, int]] | None = None, *, killing: float | None = None
) -> list[tuple[int, str]]:
    """The exit codes and what was printed of a command on several hosts.

    One is killed `killing` seconds after they have met; until then one that is gone is waited for as one that is late.
    """
    started = start(words, hosts, end or {})
    victim = random.Random(killing).choice(started)
    timer = threading.Timer(killing or 0, victim.kill)
    try:
        if killing is not None:
            for process in started:
                assert process.stdout is not None
                while "met" not in process.stdout.readline():
                    assert process.poll() is None
            timer.start()
        told = [process.communicate(timeout=900)[0] for process in started]
        return [(process.returncode, text) for process, text in zip(started, told, strict=True)]
    finally:
        timer.cancel()
        for process in started:
            process.kill()


def kills(words: list[str], count: int, longest: float, seed: int = 0) -> int:
    """Kills one of two hosts so often at random moments, up to `longest` seconds after they met, then goes on.

    Gives how often one was; the others, which a run did not live to see, are none. The other host ends within a minute.
    """
    moments, found = random.Random(seed), 0
    for _ in range(count):
        began, moment = time.monotonic(), moments.uniform(0.0, longest)
        codes = [code for code, _ in together(words, killing=moment)]
        if codes != [0, 0]:
            lasted = time.monotonic() - began - moment
            assert 0 not in codes and lasted < 60, f"{codes} after {lasted:.0f} seconds"
            found += 1
    assert [code for code, _ in together(words)] == [0, 0]
    return found
