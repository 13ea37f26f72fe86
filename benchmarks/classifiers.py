"""Time the forward pass of image classifiers: CrossFormer, ResNet and, in PyTorch, timm's Swin Transformer.

    python benchmarks/classifiers.py

Repetitions alternate between the models, so that other work on the machine slows all of them alike: read the ratios.
Weights are random. PyTorch's models run where torch and timm are installed, on the device that JAX uses.
"""

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from vitjax import backbones
from vitjax.classification import Classifier
from vitjax.structs import Images

try:
    import timm
    import torch
except ImportError:
    torch = timm = None

CLASSES = 1000
TORCH = "timm/"  # what names of timm's models begin with
SIZES = ("tiny", "small", "base", "large", "pp_small", "pp_base", "pp_large", "pp_huge")
DEPTHS = (18, 34, 50, 101)
Call = Callable[[], Any]


def classifier(name: str, dtype: str) -> Classifier:
    """One of vitjax's classifiers by name: crossformer_small, resnet50."""
    if name in {f"resnet{depth}" for depth in DEPTHS}:
        return Classifier(backbones.ResNet(int(name.removeprefix("resnet")), dtype=dtype), CLASSES, norm=False)
    if name in {f"crossformer_{size}" for size in SIZES}:
        return Classifier(getattr(backbones, name)(dtype=dtype), CLASSES)
    raise ValueError(
        f"no model {name!r}: there are crossformer_ with {', '.join(SIZES)}, "
        f"resnet with {', '.join(map(str, DEPTHS))}, and {TORCH} with any of timm's models."
    )


def jax_row(name: str, pixels: np.ndarray, dtype: str) -> tuple[int, Call]:
    """Parameters and the compiled forward pass of one of vitjax's classifiers, by the rules for images of any size."""
    images = Images(jnp.asarray(pixels), jnp.ones(pixels.shape[:3], bool))
    model = classifier(name, dtype)
    variables = jax.jit(lambda key: model.init(key, images, train=False))(jax.random.key(0))
    forward = jax.jit(lambda weights, given: model.apply(weights, given, train=False))
    compiled = forward.lower(variables, images).compile()
    count = sum(leaf.size for leaf in jax.tree.leaves(variables))
    return count, lambda: jax.block_until_ready(compiled(variables, images))


def torch_row(name: str, pixels: np.ndarray, dtype: str, threads: int) -> tuple[int, Call]:
    """Parameters and the forward pass of one of timm's models, without gradients, as timm's users run it."""
    device = "cuda" if jax.default_backend() == "gpu" and torch.cuda.is_available() else "cpu"
    torch.set_num_threads(threads)
    kind = getattr(torch, dtype)
    model = timm.create_model(name.removeprefix(TORCH), num_classes=CLASSES).eval().to(device, kind)
    images = torch.tensor(pixels.transpose(0, 3, 1, 2), device=device).to(kind)

    def forward() -> None:
        with torch.no_grad():
            model(images)
        if device == "cuda":
            torch.cuda.synchronize()

    return sum(parameter.numel() for parameter in model.parameters()), forward


def timed(calls: list[Call], repetitions: int) -> list[list[float]]:
    """Seconds of each call, all once a round in an order by chance; two rounds before warm up."""
    seconds: list[list[float]] = [[] for _ in calls]
    random = np.random.default_rng(0)
    for _ in range(repetitions + 2):
        for place in random.permutation(len(calls)):  # what threads of the call before still do hits none more often
            start = time.perf_counter()
            calls[place]()
            seconds[place].append(time.perf_counter() - start)
    return [kept[2:] for kept in seconds]


def arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    models = [f"{TORCH}swin_tiny_patch4_window7_224", "crossformer_small", "resnet50"]
    parser.add_argument("--models", nargs="+", default=models, help="ratios are to the first that runs")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="what is computed in")
    cores = len(os.sched_getaffinity(0))
    for name, default in (("batch", 8), ("size", 224), ("repetitions", 10), ("torch-threads", cores)):
        parser.add_argument(f"--{name}", type=int, default=default)
    return parser.parse_args()


def main() -> None:
    """Print the table."""
    options = arguments()
    device, cores = jax.devices()[0], len(os.sched_getaffinity(0))
    print(f"device: {device.device_kind} ({device.platform}), {cores} cores, jax {jax.__version__}")
    if torch:
        print(f"PyTorch {torch.__version__}, timm {timm.__version__}, {options.torch_threads} threads")
    else:
        print("PyTorch or timm: not installed")
    names = [name for name in options.models if torch or not name.startswith(TORCH)]
    if not names:
        sys.exit("nothing to time: every model asked for needs torch and timm.")
    shape = (options.batch, options.size, options.size, 3)
    pixels = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    given = pixels, options.dtype
    rows = [
        torch_row(name, *given, options.torch_threads) if name.startswith(TORCH) else jax_row(name, *given)
        for name in names
    ]
    seconds = timed([call for _, call in rows], options.repetitions)
    medians = [statistics.median(kept) for kept in seconds]
    title = f"batch {options.batch}, {options.size} px, {options.dtype}"
    print(f"\n{title:36}{'parameters':>12}{'median':>12}{'least':>12}{'images/s':>10}{'ratio':>8}")
    for name, (count, _), kept, median in zip(names, rows, seconds, medians, strict=True):
        times = f"{1e3 * median:9.1f} ms{1e3 * min(kept):9.1f} ms"
        print(f"{name:36}{count:12,}{times}{options.batch / median:10.1f}{medians[0] / median:7.2f}x")


if __name__ == "__main__":
    main()
