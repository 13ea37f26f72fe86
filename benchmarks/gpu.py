"""Detectors on one GPU: training steps and inference in bfloat16 and TF32, beside transformers' on the same card.

    python benchmarks/gpu.py --seconds 540 | tee gpu.jsonl

Prints a line of JSON for each figure as soon as there is one, so that a limit of time loses nothing; `--seconds` ends
it by itself. Nothing is fetched: weights and images are random. Each model runs in a process of its own, inference and
small batches first, and `peak_bytes` is the most that the process has had so far. `utilisation` is the share of the
speed of a square product in the same precision, by the operations of the program before it is compiled, in which a loop
counts once. Transformers' models run where PyTorch with CUDA is installed, in bfloat16 by autocast, as they come and
compiled. `--smallest` runs toy sizes on any device in this process, to see that it works.
"""

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.rows import CONFIGS, OBJECTS, PLACES

MODELS = ("detr", "deformable", "dino")
PRECISIONS = ("bf16", "tf32")
SIZE = (800, 1216)
LEVELS = ((100, 152), (50, 76), (25, 38), (13, 19))
Record = dict[str, Any]


def median_seconds(call: Callable[[], Any], repeats: int) -> float:
    """The median of so many calls, after two that warm up."""
    times = []
    for _ in range(repeats + 2):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return statistics.median(times[2:])


def ceiling(precision: str, side: int, repeats: int) -> float:
    """Operations in a second of a product of two squares, as bfloat16 or as float32 in JAX's current precision."""
    import jax
    import jax.numpy as jnp

    kind = jnp.bfloat16 if precision == "bf16" else jnp.float32
    one, other = jax.random.normal(jax.random.key(0), (2, side, side), kind)
    product = jax.jit(jnp.matmul)
    return 2 * side**3 / median_seconds(lambda: jax.block_until_ready(product(one, other)), repeats)


def ours(options: argparse.Namespace, model: str, precision: str) -> Iterator[Record]:
    """Inference, then training, of one of our models in a precision, smaller batches first."""
    import jax

    device = jax.devices()[0]
    with jax.default_matmul_precision("tensorfloat32" if precision == "tf32" else "default"):
        most = ceiling(precision, 256 if options.smallest else 8192, options.repeats)
        yield {"what": "ceiling", "precision": precision, "gflops": most / 1e9, "device": device.device_kind}
        for job, images in itertools.product((_inference, _training), options.batches):
            lowered, calling = job(model, precision, (images, *options.size), options.smallest)
            began = time.perf_counter()
            program = lowered.compile()
            compiled = time.perf_counter() - began
            seconds = median_seconds(calling(program), options.repeats)
            memory = program.memory_analysis()
            yield {
                "what": job.__name__.strip("_"),
                "side": "vitjax",
                "model": model,
                "precision": precision,
                "batch": images,
                "images_per_second": images / seconds,
                "utilisation": lowered.cost_analysis()["flops"] / seconds / most,
                "plan_bytes": memory.temp_size_in_bytes + memory.argument_size_in_bytes,
                "peak_bytes": (device.memory_stats() or {}).get("peak_bytes_in_use"),
                "compile_seconds": compiled,
            }


def _training(model: str, precision: str, shape: tuple[int, int, int], small: bool) -> tuple[Any, Callable]:
    import jax

    from benchmarks.steps import experiment_of, random_batch, training

    experiment = experiment_of(CONFIGS[model], small=small, dtype="bfloat16" if precision == "bf16" else None)
    turn = training(experiment, random_batch(experiment, shape, OBJECTS, PLACES))
    (lowered,) = turn.step.lowered(turn.state, turn.parts)

    def make(program: Any) -> Callable:
        def call() -> None:
            turn.state, metrics = program(turn.state, *turn.parts)
            jax.block_until_ready(metrics)

        return call

    return lowered, make


def _inference(model: str, precision: str, shape: tuple[int, int, int], small: bool) -> tuple[Any, Callable]:
    import jax

    from benchmarks.steps import experiment_of, random_batch
    from vitjax.ops.images import images_of
    from vitjax.training.first_weights import first_variables

    experiment = experiment_of(CONFIGS[model], small=small, dtype="bfloat16" if precision == "bf16" else None)
    network, batch = experiment.model, jax.device_put(random_batch(experiment, shape, OBJECTS, PLACES))
    variables = first_variables(network, seed=0)
    lowered = jax.jit(lambda weights, given: network.apply(weights, images_of(given), train=False)).lower(
        variables, batch
    )
    return lowered, lambda program: lambda: jax.block_until_ready(program(variables, batch))


def theirs(options: argparse.Namespace, model: str, precision: str, way: str) -> Iterator[Record]:
    """The same of transformers' models, where there is one and PyTorch has the device."""
    import torch

    from benchmarks import rivals

    if model == "dino" or not (torch.cuda.is_available() or options.smallest):
        return
    torch.set_float32_matmul_precision("high")  # TF32
    torch.backends.cudnn.allow_tf32 = True
    device = "cuda" if torch.cuda.is_available() else "cpu"
    how = rivals.Way(way, device, precision == "bf16")
    for job, images in itertools.product(("forward", "training"), options.batches):
        work = getattr(rivals, job)(model, (images, *options.size), options.smallest, how)
        seconds = median_seconds(work.call, options.repeats)
        yield {
            "what": {"forward": "inference"}.get(job, job),
            "side": f"transformers, {way}",
            "model": model,
            "precision": precision,
            "batch": images,
            "images_per_second": images / seconds,
            "peak_bytes": torch.cuda.max_memory_allocated() if device == "cuda" else None,
        }


def sampling(options: argparse.Namespace, precision: str) -> Iterator[Record]:
    """Deformable sampling of an encoder layer, and its gradients, in every formulation and by grid_sample."""
    from benchmarks.deformable_sampling import rows

    dtype = "bfloat16" if precision == "bf16" else "float32"
    levels = ((8, 8),) if options.smallest else LEVELS
    images = options.batches[0]
    sizes = {"heads": 2, "points": 2, "channels": 8} if options.smallest else {"heads": 8, "points": 4, "channels": 32}
    asked = argparse.Namespace(levels=levels, queries=None, batch=images, dtype=dtype, **sizes)
    for name, (forward, both) in rows(asked).items():
        times = {"forward_ms": forward, "with_backward_ms": both}
        figures = {key: 1e3 * median_seconds(call, options.repeats) for key, call in times.items()}
        yield {"what": "sampling", "side": name, "dtype": dtype, "batch": images, **figures}


def groups(options: argparse.Namespace) -> Iterator[tuple[str, ...]]:
    """What runs in a process of its own, as the name of a function and its arguments; what matters most comes first."""
    for precision in options.precisions:
        yield "sampling", precision
        for model in options.models:
            yield "ours", model, precision
            for way in options.ways if precision == "bf16" else ():
                yield "theirs", model, precision, way


def told(options: argparse.Namespace, name: str, *words: str) -> None:
    """Prints what a group finds, and its error if it cannot go on."""
    try:
        for record in {"ours": ours, "theirs": theirs, "sampling": sampling}[name](options, *words):
            print(json.dumps(record), flush=True)
    except Exception as error:  # what comes after it may work
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        print(json.dumps({"what": "failed", "group": [name, *words], "error": reason[:300]}), flush=True)


def in_processes(options: argparse.Namespace, words: list[str]) -> None:
    """Runs every group in a process of its own as long as there is time."""
    ends = time.monotonic() + options.seconds
    environment = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", "HF_HUB_OFFLINE": "1", **os.environ}
    for group in groups(options):
        command = [sys.executable, __file__, *words, "--group", *group]
        try:
            status = subprocess.run(command, env=environment, timeout=max(1, ends - time.monotonic())).returncode
        except subprocess.TimeoutExpired:
            print(json.dumps({"what": "no time left", "group": group}), flush=True)
            return
        if status:
            print(json.dumps({"what": "failed", "group": group, "error": f"status {status}"}), flush=True)


def main(words: list[str]) -> None:
    """Prints the lines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=PRECISIONS)
    parser.add_argument("--batches", nargs="+", type=int, help="images of a step (8 16)")
    parser.add_argument("--size", nargs=2, type=int, default=SIZE, help="height and width (800 1216)")
    parser.add_argument("--ways", nargs="*", choices=("eager", "compile"), default=("eager", "compile"))
    parser.add_argument("--repeats", type=int, default=10, help="calls that are timed (10)")
    parser.add_argument("--seconds", type=float, default=1e6, help="after which it ends")
    parser.add_argument("--smallest", action="store_true", help="toy sizes")
    parser.add_argument("--group", nargs="+", help="one of those that the command runs in processes of their own")
    options = parser.parse_args(words)
    if options.smallest:
        options.size, options.repeats = (64, 64), 1
    options.batches = options.batches or ((1,) if options.smallest else (8, 16))
    if options.group:
        told(options, *options.group)
    elif options.smallest:
        for group in groups(options):
            told(options, *group)
    else:
        in_processes(options, words)


if __name__ == "__main__":
    main(sys.argv[1:])
