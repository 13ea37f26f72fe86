"""Detectors on one GPU: training steps and inference in bfloat16 and TF32, beside transformers' on the same card.

    python benchmarks/gpu.py --seconds 540 | tee gpu.jsonl

Prints a line of JSON for each figure as soon as there is one, so that a limit of time loses nothing; `--seconds` ends
it by itself. Nothing is fetched: weights and images are random. Each figure has a process of its own; some of them
compile side by side, and are then timed one after the other. `utilisation` is the share of the speed of a square
product in the same precision, by the operations of products and convolutions. `difference` is the largest of results
and gradients from those of the plain formulas in the same precision. Transformers' models run where PyTorch with CUDA
is installed, in bfloat16 by autocast, as they come and compiled. `--smallest` runs toy sizes on any device in this
process, to see that it works.

XLA tries many kernels for each product before it takes one, most of them Triton's, which takes minutes:
XLA_FLAGS=--xla_gpu_enable_triton_gemm=false leaves it cuBLAS and cuDNN.
"""

import argparse
import contextlib
import itertools
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.rows import CONFIGS, OBJECTS, PLACES

MODELS = ("detr", "deformable", "dino")
PRECISIONS = ("bf16", "tf32")
JOBS = ("training", "inference")
SIDES = ("vitjax", "transformers", "sampling", "attention")
SIZE = (800, 1216)
LEVELS = ((100, 152), (50, 76), (25, 38), (13, 19))
_READY = "ready"  # says a process, and waits
Record = dict[str, Any]
Task = Iterator[Record | None]
"""The figures of a process; None says once that what is left needs the device for itself."""


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


def vitjax(options: argparse.Namespace, precision: str, model: str, job: str, images: int) -> Task:
    """Inference or training of one of our models."""
    import jax

    device = jax.devices()[0]
    with jax.default_matmul_precision("tensorfloat32" if precision == "tf32" else "default"):
        make = {"inference": _inference, "training": _training}[job]
        lowered, operations, calling = make(model, precision, (images, *options.size), options.smallest)
        began = time.perf_counter()
        program = lowered.compile()
        compiled, call = time.perf_counter() - began, calling(program)
        yield None
        most = ceiling(precision, 256 if options.smallest else 8192, options.repeats)
        seconds = median_seconds(call, options.repeats)
    memory = program.memory_analysis()
    yield {
        "what": job,
        "side": "vitjax",
        "model": model,
        "precision": precision,
        "batch": images,
        "images_per_second": images / seconds,
        "utilisation": operations / seconds / most,
        "ceiling_tflops": most / 1e12,
        "gflop": operations / 1e9,
        "plan_bytes": memory.temp_size_in_bytes + memory.argument_size_in_bytes,
        "compile_seconds": compiled,
        "device": device.device_kind,
    }
    if options.keep and job == "training":
        _keep(Path(options.keep) / f"{model}_{precision}_{images}", program, call)


def _keep(stem: Path, program: Any, call: Callable) -> None:
    """Writes the program's text, and the events of a call."""
    import gzip

    from benchmarks.step_parts import traced

    stem.parent.mkdir(parents=True, exist_ok=True)
    for kind, words in (("hlo", program.as_text()), ("json", json.dumps(traced(call)))):
        with gzip.open(f"{stem}.{kind}.gz", "wt") as file:
            file.write(words)


def _training(model: str, precision: str, shape: tuple[int, int, int], small: bool) -> tuple[Any, float, Callable]:
    import jax

    from benchmarks.operations import products
    from benchmarks.steps import experiment_of, random_batch, training

    experiment = experiment_of(CONFIGS[model], small=small, dtype="bfloat16" if precision == "bf16" else None)
    turn = training(experiment, random_batch(experiment, shape, OBJECTS, PLACES))
    traced = turn.traced()

    def make(program: Any) -> Callable:
        def call() -> None:
            turn.state, metrics = program(turn.state, *turn.parts)
            jax.block_until_ready(metrics)

        return call

    return traced.lower(), products(traced.jaxpr), make


def _inference(model: str, precision: str, shape: tuple[int, int, int], small: bool) -> tuple[Any, float, Callable]:
    import jax

    from benchmarks.operations import products
    from benchmarks.steps import experiment_of, random_batch
    from vitjax.ops.images import images_of
    from vitjax.training.first_weights import first_variables

    experiment = experiment_of(CONFIGS[model], small=small, dtype="bfloat16" if precision == "bf16" else None)
    network, batch = experiment.model, jax.device_put(random_batch(experiment, shape, OBJECTS, PLACES))
    variables = first_variables(network, seed=0)
    traced = jax.jit(lambda weights, given: network.apply(weights, images_of(given), train=False)).trace(
        variables, batch
    )

    def make(program: Any) -> Callable:
        return lambda: jax.block_until_ready(program(variables, batch))

    return traced.lower(), products(traced.jaxpr), make


def transformers(options: argparse.Namespace, precision: str, model: str, job: str, images: int, way: str) -> Task:
    """The same of transformers' models, where there is one and PyTorch has the device."""
    import torch

    from benchmarks import rivals

    if not (torch.cuda.is_available() or options.smallest):
        return
    torch.set_float32_matmul_precision("high")  # TF32
    torch.backends.cudnn.allow_tf32 = True
    device = "cuda" if torch.cuda.is_available() else "cpu"
    how = rivals.Way(way, device, precision == "bf16")
    work = getattr(rivals, {"inference": "forward"}.get(job, job))(
        model, (images, *options.size), options.smallest, how
    )
    if way == "compile":
        work.call()
        torch.cuda.empty_cache()
    yield None
    seconds = median_seconds(work.call, options.repeats)
    yield {
        "what": job,
        "side": f"transformers, {way}",
        "model": model,
        "precision": precision,
        "batch": images,
        "images_per_second": images / seconds,
        "peak_bytes": torch.cuda.max_memory_allocated() if device == "cuda" else None,
        "torch": torch.__version__,
    }


def difference(found: Any, wanted: Any) -> float:
    """The largest between two trees of arrays, as a share of the largest number of the array that is wanted."""
    import jax
    import jax.numpy as jnp

    def share(one: Any, other: Any) -> float:
        one, other = (jnp.asarray(array, jnp.float32) for array in (one, other))
        return float(jnp.abs(one - other).max() / jnp.abs(other).max())

    return max(jax.tree.leaves(jax.tree.map(share, found, wanted)))


def sampling(options: argparse.Namespace, precision: str) -> Task:
    """Deformable sampling of an encoder layer, and its gradients, in every formulation and by grid_sample."""
    from benchmarks.deformable_sampling import rows

    dtype = "bfloat16" if precision == "bf16" else "float32"
    levels = ((8, 8),) if options.smallest else LEVELS
    images = options.batches[0]
    sizes = {"heads": 2, "points": 2, "channels": 8} if options.smallest else {"heads": 8, "points": 4, "channels": 32}
    asked = argparse.Namespace(levels=levels, queries=None, batch=images, dtype=dtype, **sizes)
    found = rows(asked)
    yield None
    wanted = found["scanned, autodiff"][1]()
    for name, (forward, both) in found.items():
        times = {"forward_ms": forward, "with_backward_ms": both}
        figures = {key: 1e3 * median_seconds(call, options.repeats) for key, call in times.items()}
        figures |= {} if (got := both()) is None else {"difference": difference(got, wanted)}
        yield {"what": "sampling", "side": name, "dtype": dtype, "batch": images, **figures}


def attention(options: argparse.Namespace, precision: str) -> Task:
    """Attention of DETR's encoder, and its gradients, by XLA, cuDNN and our kernels, without dropout and with it."""
    import jax
    import jax.numpy as jnp

    from vitjax.ops.kernels.attention import attention as by_kernels
    from vitjax.ops.kernels.attention import plain, seeds_of

    dtype = "bfloat16" if precision == "bf16" else "float32"
    images, tokens, heads = (1, 16, 2) if options.smallest else (options.batches[0], 25 * 38, 8)
    given = jax.random.normal(jax.random.key(0), (3, images, tokens, heads, 32), dtype)
    key, valid = jax.random.key(1), jnp.broadcast_to(jnp.arange(tokens) < tokens - 5, (images, tokens))
    mask = valid[:, None, None]
    whole = jnp.broadcast_to(mask, (images, 1, tokens, tokens))  # as cuDNN wants it
    ways: dict[str, Callable] = {
        "xla": lambda *qkv: jax.nn.dot_product_attention(*qkv, mask=mask, implementation="xla"),
        "xla, dropout": lambda q, k, v: plain(0.1, q, k, v, valid[:, None].astype(jnp.int8), seeds_of(key, q, k)),
    }
    if jax.default_backend() == "gpu" and precision == "bf16":
        ways["cudnn"] = lambda *qkv: jax.nn.dot_product_attention(*qkv, mask=whole, implementation="cudnn")
        ways["kernels"] = lambda *qkv: by_kernels(0.0, None, *qkv, mask)
        ways["kernels, dropout"] = lambda *qkv: by_kernels(0.1, key, *qkv, mask)
    calls = {}
    for way, forward in ways.items():
        gradients = jax.grad(lambda *qkv, forward=forward: forward(*qkv).astype(jnp.float32).sum(), (0, 1, 2))
        calls[way] = [jax.jit(part).lower(*given).compile() for part in (forward, gradients)]
    yield None
    results = {way: [part(*given) for part in parts] for way, parts in calls.items()}
    for way, parts in calls.items():
        wanted = results["xla, dropout" if way.endswith("dropout") else "xla"]
        times = [
            1e3 * median_seconds(lambda part=part: jax.block_until_ready(part(*given)), options.repeats)
            for part in parts
        ]
        figures = dict(zip(("forward_ms", "with_backward_ms"), times, strict=True))
        figures["difference"] = difference(results[way], wanted)
        yield {"what": "attention", "side": way, "dtype": dtype, "batch": images, **figures}


def rounds(options: argparse.Namespace) -> Iterator[list[tuple[str, ...]]]:
    """What runs side by side: names of functions and their arguments, what matters most first."""
    every = list(models(options))
    yield from (every[first : first + options.at_once] for first in range(0, len(every), options.at_once))
    for side, precision in itertools.product(("sampling", "attention"), options.precisions):
        if side in options.sides:
            yield [(side, precision)]


def models(options: argparse.Namespace) -> Iterator[tuple[str, ...]]:
    """Models of both sides, by precision, batch and job."""
    for precision, batch, job in itertools.product(options.precisions, map(str, options.batches), options.jobs):
        for side, model in itertools.product(options.sides, options.models):
            if side == "vitjax":
                yield side, precision, model, job, batch
            elif side == "transformers" and precision == "bf16" and model != "dino":
                yield from ((side, precision, model, job, batch, way) for way in options.ways)


def figures(options: argparse.Namespace, name: str, *words: str) -> Task:
    """What a process finds, and its error if it cannot go on."""
    given = [int(word) if word.isdigit() else word for word in words]
    try:
        tasks = {"vitjax": vitjax, "transformers": transformers, "sampling": sampling, "attention": attention}
        yield from tasks[name](options, *given)
    except Exception as error:  # what comes after it may work
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        yield {"what": "failed", "group": [name, *words], "error": reason[:300]}


def printed(task: Task, waits: bool) -> None:
    """Prints figures; where they need the device for themselves, says so and waits for a line."""
    for record in task:
        if record is not None:
            print(json.dumps(record), flush=True)
        elif waits:
            print(_READY, flush=True)
            sys.stdin.readline()


def side_by_side(options: argparse.Namespace, groups: list[tuple[str, ...]], words: list[str], running: list) -> None:
    """Runs each group in a process of its own: all until they need the device for themselves, then in turn."""
    environment = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", "XLA_PYTHON_CLIENT_MEM_FRACTION": ".95", **os.environ}
    environment["HF_HUB_OFFLINE"] = "1"
    piped: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": environment}
    running[:] = [subprocess.Popen([sys.executable, __file__, *words, "--group", *group], **piped) for group in groups]
    readers = [threading.Thread(target=_until_ready, args=(process,), daemon=True) for process in running]
    for reader in readers:
        reader.start()
    ends = time.monotonic() + options.ready_within
    for reader in readers:
        reader.join(max(0, ends - time.monotonic()))
    late = [reader.is_alive() for reader in readers]
    for process in itertools.compress(running, late):  # else they would compile beside those that are timed
        process.kill()
        process.wait()
    for process, group, was_late in zip(running, groups, late, strict=True):
        with contextlib.suppress(BrokenPipeError):  # it has ended
            process.stdin.write("go\n")
            process.stdin.close()
        for line in process.stdout if not was_late else ():
            print(line, end="", flush=True)
        if process.wait():
            error = "not ready in time" if was_late else f"status {process.returncode}"
            print(json.dumps({"what": "failed", "group": group, "error": error}), flush=True)


def _until_ready(process: subprocess.Popen) -> None:
    """Prints what a process says before it is ready or ends."""
    for line in iter(process.stdout.readline, ""):
        if line.strip() == _READY:
            return
        print(line, end="", flush=True)


def main(words: list[str]) -> None:
    """Prints the lines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=PRECISIONS)
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=SIDES)
    parser.add_argument("--jobs", nargs="+", choices=JOBS, default=JOBS)
    parser.add_argument("--batches", nargs="+", type=int, help="images of a step (8 16)")
    parser.add_argument("--size", nargs=2, type=int, default=SIZE, help="height and width (800 1216)")
    parser.add_argument("--ways", nargs="*", choices=("eager", "compile"), default=("eager", "compile"))
    parser.add_argument("--repeats", type=int, default=10, help="calls that are timed (10)")
    parser.add_argument("--seconds", type=float, default=1e6, help="after which it ends")
    parser.add_argument("--at-once", type=int, default=6, help="processes that compile side by side (6)")
    parser.add_argument(
        "--ready-within", type=float, default=1e6, help="seconds to compile, after which it is left out"
    )
    parser.add_argument("--keep", help="a folder for traces and compiled programs of training steps")
    parser.add_argument("--smallest", action="store_true", help="toy sizes")
    parser.add_argument("--group", nargs="+", help="one of those that the command runs in processes of their own")
    options = parser.parse_args(words)
    if options.smallest:
        options.size, options.repeats = (64, 64), 1
    options.batches = options.batches or ((1,) if options.smallest else (8, 16))
    if options.group:
        return printed(figures(options, *options.group), waits=True)
    running: list[subprocess.Popen] = []

    def end() -> None:
        print(json.dumps({"what": "no time left"}), flush=True)
        for process in running:
            process.kill()
        os._exit(1)

    timer = threading.Timer(options.seconds, end)
    timer.daemon = True
    timer.start()
    for together in rounds(options):
        if options.smallest:
            for group in together:
                printed(figures(options, *group), waits=False)
        else:
            side_by_side(options, together, words, running)


if __name__ == "__main__":
    main(sys.argv[1:])
