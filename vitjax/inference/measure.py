"""How fast a model is here and how much memory it takes: its prediction step on images of noise."""

import dataclasses
import time
from typing import Any

import jax
import numpy as np

from vitjax.data.crops import CenterCrop
from vitjax.data.errors import require_positive
from vitjax.data.loader import batches
from vitjax.data.memory import Pictures
from vitjax.data.source import Classes
from vitjax.data.transforms import Resize
from vitjax.errors import FieldError
from vitjax.inference.devices import devices_named
from vitjax.inference.sweep import make_predict_step
from vitjax.inference.task import Task
from vitjax.placement import Precision, check_batch_size, compiled, data_mesh, place_batch, place_state
from vitjax.structs import Batch

_WARM_UP = 2  # runs that are not counted


@dataclasses.dataclass(frozen=True)
class Measured:
    """What a prediction step takes: seconds of each run from bytes in memory to answers in memory, and bytes.

    `compile_seconds` are those of tracing and compiling. Of the memory of one device, `arguments` are the parameters
    and a batch, `working` is what the compiled program needs beside them, by its own plan; `peak` is the most that the
    device has had in use so far, None where it does not tell.
    """

    device: str
    devices: int
    batch_size: int
    image_size: tuple[int, int]
    compile_seconds: float
    seconds: tuple[float, ...]
    arguments: int
    working: int
    peak: int | None

    def told(self) -> dict[str, Any]:
        """The figures for json: milliseconds of a batch, images a second by the median, and bytes."""
        median, p90 = (float(np.percentile(self.seconds, share)) for share in (50, 90))
        return {
            "device": self.device,
            "devices": self.devices,
            "batch_size": self.batch_size,
            "image_size": list(self.image_size),
            "runs": len(self.seconds),
            "median_ms": round(1e3 * median, 3),
            "p90_ms": round(1e3 * p90, 3),
            "images_per_second": round(self.batch_size / median, 3),
            "compile_seconds": round(self.compile_seconds, 3),
            "argument_bytes": self.arguments,
            "working_bytes": self.working,
            "peak_bytes": self.peak,
        }


def measure(
    task: Task,
    variables: dict[str, Any],
    classes: Classes,
    *,
    image_size: tuple[int, int],
    batch_size: int = 1,
    repeats: int = 20,
    device: str | None = None,
    precision: Precision | None = None,
) -> Measured:
    """Compiles the step for so many images of the (height, width) that the model sees, and runs it `repeats` times.

    A run puts the images on the device, predicts, and fetches what was found. Without a `device` it is the first.

    Raises:
        FieldError: there is no such device, or the numbers mean nothing to the model.
    """
    require_positive(batch_size=batch_size, repeats=repeats, height=image_size[0], width=image_size[1])
    mesh = data_mesh(devices_named(device or f"{jax.default_backend()}:0"))
    check_batch_size(batch_size, mesh)
    batch = noise(task, classes, image_size, batch_size)
    step = compiled(make_predict_step(task, precision), mesh, batches=(1,))
    placed = place_state(variables, mesh)
    began = time.perf_counter()
    program = step.lower(placed, place_batch(batch, mesh)).compile()
    compile_seconds = time.perf_counter() - began
    seconds = []
    for _ in range(_WARM_UP + repeats):
        began = time.perf_counter()
        jax.device_get(program(placed, place_batch(batch, mesh)))
        seconds.append(time.perf_counter() - began)
    memory, first = program.memory_analysis(), mesh.devices.flat[0]
    return Measured(
        device=f"{first.platform} ({first.device_kind})",
        devices=mesh.size,
        batch_size=batch_size,
        image_size=batch.pixels.shape[1:3],
        compile_seconds=compile_seconds,
        seconds=tuple(seconds[_WARM_UP:]),
        arguments=memory.argument_size_in_bytes,
        working=memory.temp_size_in_bytes + memory.output_size_in_bytes,
        peak=(first.memory_stats() or {}).get("peak_bytes_in_use"),
    )


def noise(task: Any, classes: Classes, size: tuple[int, int], batch_size: int) -> Batch:
    """A batch of images of noise that the model sees at a (height, width), padded to multiples of 32 as in prediction.

    Raises:
        FieldError: the model sees squares only.
    """
    height, width = size
    if isinstance(task.preprocess, CenterCrop):
        if height != width:
            raise FieldError(f"this model sees squares, of equal height and width; got {height} x {width}.")
        task = dataclasses.replace(task, preprocess=CenterCrop(height, height))
    else:
        task = dataclasses.replace(task, preprocess=Resize(None, None))
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    source = Pictures([pixels] * batch_size, classes)
    batch = next(batches(source, task.plan(source, batch_size, multiple=32), max_objects=1))
    return dataclasses.replace(batch, label_maps=None)
