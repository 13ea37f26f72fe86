"""Time the formulations of deformable sampling against each other and PyTorch's grid_sample.

    python benchmarks/deformable_sampling.py

Repetitions alternate between the rows, so that other work on the machine slows all of them alike: read the ratios.
PyTorch runs where it is installed. Without options the work is that of one encoder layer at 480x640 pixels.
"""

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from vitjax.ops.sampling import gathered, gathered_gradients, sampling_at, scanned, scanned_gradients

try:
    import torch
except ImportError:
    torch = None

Shapes = tuple[tuple[int, int], ...]
Call = Callable[[], Any]


def inputs(options: argparse.Namespace) -> tuple[np.ndarray, ...]:
    """Value, x and y a few pixels around the queries' own pixels, weights that sum to one, and a cotangent."""
    random = np.random.default_rng(0)
    shapes, heads, points = options.levels, options.heads, options.points
    tokens = sum(height * width for height, width in shapes)
    queries = options.queries or tokens
    centres = [(np.mgrid[:h, :w].reshape(2, -1).T[:, ::-1] + 0.5) / (w, h) for h, w in shapes]
    own = np.resize(np.concatenate(centres), (queries, 2))[:, None, None, None]
    offsets = random.normal(size=(options.batch, queries, heads, len(shapes), points, 2)) * 3
    locations = own + offsets / np.array(shapes)[:, None, ::-1]
    weights = random.dirichlet(np.ones(len(shapes) * points), (options.batch, queries, heads))
    value = random.normal(size=(options.batch, tokens, heads, options.channels))
    cotangent = random.normal(size=(options.batch, queries, heads, options.channels))
    arrays = value, *np.moveaxis(locations, -1, 0), weights.reshape(locations.shape[:-1]), cotangent
    return tuple(array.astype(np.float32) for array in arrays)


def jax_row(
    forward: Callable, gradients: Callable | None, arrays: tuple[np.ndarray, ...], dtype: str
) -> tuple[Call, Call]:
    """Compiled calls of forward, and of forward and backward; without gradients, those of automatic differentiation."""

    def both(*given: jax.Array) -> Any:
        out, pull = jax.vjp(forward, *given[:-1])
        return out, gradients(*given) if gradients else pull(given[-1])

    value, *places, cotangent = arrays
    given = [jnp.asarray(value, dtype), *map(jnp.asarray, places), jnp.asarray(cotangent, dtype)]
    fast, full = (jax.jit(call).lower(*args).compile() for call, args in ((forward, given[:-1]), (both, given)))
    return lambda: jax.block_until_ready(fast(*given[:-1])), lambda: jax.block_until_ready(full(*given))


def grid_sample_way(shapes: Shapes, value: Any, x: Any, y: Any, weights: Any) -> Any:
    """Level by level through `torch.nn.functional.grid_sample`, then the weighted sum."""
    locations = torch.stack([x, y], -1)
    batch, queries, heads, _, points = weights.shape
    taken = []
    for level, part in enumerate(value.split([height * width for height, width in shapes], dim=1)):
        image = part.flatten(2).transpose(1, 2).reshape(batch * heads, -1, *shapes[level])
        grid = (2 * locations[:, :, :, level] - 1).transpose(1, 2).flatten(0, 1)
        taken.append(torch.nn.functional.grid_sample(image, grid, "bilinear", "zeros", align_corners=False))
    share = weights.transpose(1, 2).reshape(batch * heads, 1, queries, len(shapes) * points)
    out = (torch.stack(taken, dim=-2).flatten(-2) * share).sum(-1)
    return out.reshape(batch, heads, -1, queries).permute(0, 3, 1, 2)


def torch_row(shapes: Shapes, arrays: tuple[np.ndarray, ...]) -> tuple[Call, Call]:
    """Calls of PyTorch's way, on the device that JAX uses where PyTorch has it."""
    device = "cuda" if jax.default_backend() == "gpu" and torch.cuda.is_available() else "cpu"
    torch.set_num_threads(os.cpu_count() or 1)
    *given, cotangent = (torch.tensor(array, device=device) for array in arrays)
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None

    def fast() -> None:
        with torch.no_grad():
            grid_sample_way(shapes, *given)
        wait()

    def full() -> None:
        leaves = [array.requires_grad_() for array in given]
        torch.autograd.grad(grid_sample_way(shapes, *leaves), leaves, cotangent)
        wait()

    return fast, full


def rows(options: argparse.Namespace) -> dict[str, tuple[Call, Call]]:
    """What is timed, by name; the first row is what the others are compared with."""
    shapes, arrays = options.levels, inputs(options)
    row = partial(jax_row, arrays=arrays, dtype=options.dtype)
    found = {"PyTorch grid_sample": torch_row(shapes, arrays)} if torch else {}
    scan, gather = partial(scanned, shapes), partial(gathered, shapes)
    return found | {
        "sampling_at": row(lambda v, *rest: sampling_at(v, shapes, *rest), None),
        "scanned, own gradients": row(scan, partial(scanned_gradients, shapes)),
        "scanned, autodiff": row(scan, None),
        "gathered, recomputed": row(gather, partial(gathered_gradients, shapes)),
        "gathered, autodiff": row(gather, None),
    }


def timed(calls: list[Call], repetitions: int) -> list[float]:
    """The median milliseconds of each call, all once a round in an order by chance; a first round warms up."""
    seconds: list[list[float]] = [[] for _ in calls]
    random = np.random.default_rng(0)
    for _ in range(repetitions + 1):
        for place in random.permutation(len(calls)):  # what threads of the call before still do hits none more often
            start = time.perf_counter()
            calls[place]()
            seconds[place].append(time.perf_counter() - start)
    return [1e3 * statistics.median(kept[1:]) for kept in seconds]


def level(text: str) -> tuple[int, int]:
    """(height, width) from text like 60x80."""
    height, width = text.split("x")
    return int(height), int(width)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--levels", type=level, nargs="+", default=((60, 80), (30, 40), (15, 20), (8, 10)))
    parser.add_argument("--queries", type=int, help="as many as there are tokens if left out")
    parser.add_argument("--dtype", default="float32", help="of JAX's values; PyTorch samples in float32 always")
    for name, default in (("batch", 1), ("heads", 8), ("points", 4), ("channels", 32), ("repetitions", 10)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    options.levels = tuple(options.levels)
    device = jax.devices()[0]
    print(f"device: {device.device_kind} ({device.platform}), {os.cpu_count()} cores, jax {jax.__version__}")
    print(f"PyTorch: {torch.__version__}" if torch else "PyTorch: not installed, so ratios are to the first row")
    found = rows(options)
    calls = [call for row in found.values() for call in row]
    times = timed(calls, options.repetitions)
    first = times[:2]
    print(f"\n{'median of ' + str(options.repetitions):28}{'forward':>18}{'forward + backward':>26}")
    for name, forward, full in zip(found, times[::2], times[1::2], strict=True):
        print(f"{name:28}{forward:9.1f} ms {first[0] / forward:5.2f}x{full:17.1f} ms {first[1] / full:5.2f}x")


if __name__ == "__main__":
    main()
