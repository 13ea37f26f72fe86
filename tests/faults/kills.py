"""Trains a tiny detector that is killed at random moments, and goes on each time: `python tests/faults/kills.py 20`.

What it leaves is compared with what a run leaves that nothing disturbed: parameters and optimiser state to the bit, and
every line of metrics.
"""

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CONFIG = '''"""A detector of a few thousand parameters on eight scenes: two steps an epoch."""

from vitjax.backbones.resnet import ResNet
from vitjax.data.digits import Digits
from vitjax.data.transforms import Augmentation, Resize
from vitjax.detection.detr import DETR
from vitjax.runs.optimizer import AdamW
from vitjax.tasks.detection import Detection


def experiment():
    return Detection(
        model=DETR(
            backbone=ResNet(depth=18, width=4, stage_blocks=(1,), norm="group"),
            num_queries=5, channels=16, heads=2, encoder_layers=1, decoder_layers=1, feed_forward=16,
        ),
        data=Digits(train_images=8, val_images=2),
        augmentation=Augmentation(sizes=(), max_side=None, crop=0.0),
        resize=Resize(size=None, max_side=None),
        optimizer=AdamW(learning_rate=1e-3),
        epochs=2, batch_size=4, log_every=1, save_every=0.5,
    )
'''

# Ends itself so many seconds after training was called, wherever it then is: in a step, a save, a score or the report.
CHILD = """
import os, signal, sys, threading
import jax
jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_disable_most_optimizations", True)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
from vitjax.commands.main import train
import vitjax.training.loop, vitjax.training.verdict
timer = threading.Timer(float(sys.argv[1]), os.kill, (os.getpid(), signal.SIGKILL))
timer.daemon = True
timer.start()
sys.exit(train(sys.argv[2:]))
"""


def run(words: list[str], seconds: float) -> int:
    """The exit code of a training command that is killed after so many seconds, -9 where it was."""
    root = Path(__file__).resolve().parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    ended = subprocess.run(
        [sys.executable, "-c", CHILD, str(seconds), *words],
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    if ended.returncode not in (0, -signal.SIGKILL):
        raise RuntimeError(f"a run ended with {ended.returncode}: {ended.stderr[-2000:]}")
    return ended.returncode


def kill_and_go_on(words: list[str], kills: int, seed: int, longest: float) -> list[float]:
    """Kills the command so often, at moments up to `longest` seconds after its start, which are returned.

    A run that reaches its end before its moment counts as none; afterwards the run is at its end.
    """
    moments, random_moments = list[float](), random.Random(seed)
    while len(moments) < kills:
        moment = random_moments.uniform(0.0, longest)
        if run(words, moment) == 0:
            break
        moments.append(moment)
    while run(words, 500.0) != 0:
        continue
    return moments


def left_by(workdir: Path) -> tuple[list[tuple], dict]:
    """The lines of metrics of a run, and the arrays of its last checkpoint."""
    from vitjax.checkpoints.paths import flatten
    from vitjax.checkpoints.store import Store
    from vitjax.training.report import read_metrics

    lines = [(entry["step"], entry["split"], entry.get("loss", entry.get("AP"))) for entry in read_metrics(workdir)]
    with Store(workdir / "checkpoints") as store:
        state = flatten(store.restore_subtree(store.latest_step(), ""))
    return lines, {path: leaf for path, leaf in state.items() if path != "key"}


def assert_same(found: Path, wanted: Path) -> None:
    """Raises an AssertionError where two runs left something else."""
    import numpy as np

    (mine, arrays), (theirs, others) = left_by(found), left_by(wanted)
    assert mine == theirs and arrays.keys() == others.keys()
    for path, array in arrays.items():
        np.testing.assert_array_equal(array, others[path], err_msg=path)


def main(kills: int, epochs: str) -> None:
    """Kills a run so often and says what came of it."""
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder, "tiny.py")
        config.write_text(CONFIG)
        words = [str(config), "--epochs", epochs]
        began = time.monotonic()
        run([*words, "--workdir", f"{folder}/whole"], 500.0)
        whole, done, rounds = time.monotonic() - began, 0, 0
        while done < kills:
            workdir = f"{folder}/run{rounds}"
            moments = kill_and_go_on([*words, "--workdir", workdir], kills - done, rounds, whole / 2)
            assert_same(Path(workdir), Path(folder, "whole"))
            done, rounds = done + len(moments), rounds + 1
            print(f"killed after {', '.join(f'{each:.1f}' for each in moments)} s; ended as it would have", flush=True)
        print(f"{done} kills in {rounds} runs; an undisturbed one takes {whole:.0f} s")


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "6")
