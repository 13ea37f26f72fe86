"""`vitjax benchmark`: how fast a model is on this machine, and how much memory it takes."""

import json
from dataclasses import dataclass
from typing import Any, Literal

import tyro


@dataclass(frozen=True)
class BenchmarkArguments:
    """Measures a model here, on images of noise: the time of a batch from pixels in memory to detections or classes in
    memory (median, and what nine of ten runs stay below), images a second, the time to compile, and the memory that the
    compiled program plans for. Reading and resizing of files is not in it."""

    model: tyro.conf.Positional[str]
    """Run folder, published file, or folder or repository in Hugging Face's layout."""
    image_size: tuple[int, int] | None = None
    """Height and width that the model sees; if left out those of its evaluation, of a detector a photograph of 4:3."""
    batch_size: int = 1
    """Images that are run at once."""
    dtype: Literal["float32", "bfloat16"] | None = None
    """What to compute in; what the model says if left out."""
    device: str | None = None
    """Where to compute: cpu, gpu, tpu (all of that kind), or one of several, such as cuda:1; the first if left out."""
    repeats: int = 20
    """Runs that are measured, after two that are not."""
    json: bool = False
    """Prints the figures as json, for programs."""
    step: int | None = None
    """Checkpoint to use; the best one if left out."""
    matmul_precision: Literal["default", "high", "highest"] | None = None
    """Precision of float32 matrix products on accelerators; that of the run, or JAX's default, if left out."""


def run(words: list[str]) -> None:
    """Measures and prints."""
    import jax

    from vitjax.families.computing import computing_in
    from vitjax.inference.measure import measure
    from vitjax.runs.read_model import read_model
    from vitjax.tasks import experiment_of

    given = tyro.cli(BenchmarkArguments, prog="vitjax benchmark", args=words)
    file = read_model(given.model, step=given.step)
    model = file.model if given.dtype is None else computing_in(file.model, given.dtype)
    task = experiment_of(model).predicts(model, file.resize, file.postprocess)
    measured = measure(
        task,
        file.variables,
        file.classes,
        image_size=given.image_size or _size_of(file.resize),
        batch_size=given.batch_size,
        repeats=given.repeats,
        device=given.device,
        precision=given.matmul_precision or file.matmul_precision,
    )
    parameters = sum(leaf.size for leaf in jax.tree.leaves(file.variables["params"]))
    about = {"model": given.model, "kind": type(model).__name__, "parameters": parameters}
    detector = getattr(model, getattr(model, "inside", ""), model)
    about |= {"dtype": given.dtype or getattr(detector, "dtype", None) or "float32", "jax": jax.__version__}
    config: Any = jax.config
    kept = config.jax_compilation_cache_dir if config.jax_enable_compilation_cache else None
    told = about | measured.told() | {"compilation_cache": kept}
    print(json.dumps(told, indent=1) if given.json else "\n".join(table(told)))


def _size_of(resize: Any) -> tuple[int, int]:
    from vitjax.errors import FieldError
    from vitjax.export.export import frame_of

    if resize.size is None:
        raise FieldError("this model sees images as they are, of any size; give --image-size HEIGHT WIDTH.")
    return frame_of(resize)


def table(told: dict[str, Any]) -> list[str]:
    """The figures for people."""
    height, width = told["image_size"]
    several = f"{told['devices']} devices of " if told["devices"] > 1 else ""
    cached = ", of which JAX's cache may have saved some" if told["compilation_cache"] else ""
    peak = "" if told["peak_bytes"] is None else f", at most {_size(told['peak_bytes'])} in use on the device"
    return [
        f"{told['kind']} of {told['model']}: {told['parameters']:,} parameters, computes in {told['dtype']}",
        f"batches of {told['batch_size']}, {height} x {width} pixels, on {several}{told['device']}, jax {told['jax']}",
        f"latency     {told['median_ms']:,.1f} ms median, {told['p90_ms']:,.1f} ms p90 ({told['runs']} runs)",
        f"throughput  {told['images_per_second']:,.1f} images/s",
        f"compiling   {told['compile_seconds']:.1f} s{cached}",
        f"memory      {_size(told['argument_bytes'])} parameters and images, "
        f"{_size(told['working_bytes'])} working{peak}",
    ]


def _size(count: int) -> str:
    return f"{count / 2**20:,.1f} MiB"
