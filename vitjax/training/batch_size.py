"""The largest batch whose step fits into memory, by the plan of the compiled program."""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax

from vitjax.checkpoints.folders import steps_in
from vitjax.data.loader import load
from vitjax.errors import FieldError
from vitjax.runs.experiment import Experiment
from vitjax.runs.run_folder import checkpoints_of, is_run, read_stored
from vitjax.training.prepare import Prepared, prepare
from vitjax.training.sizes import of_size
from vitjax.training.steps import divided_rows

_STEPS = 16  # an epoch of fewer steps is no gain: what a step costs is made up by nothing that it learns
_SHARES = {"device": 0.9, "host": 0.7}  # of what is free; the rest is for evaluation, images that wait, and gaps
_MEMORY = Path("/proc/meminfo")
_LIMITS = tuple(
    (Path("/sys/fs/cgroup", limit), Path("/sys/fs/cgroup", used))
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    )
)


def filling_memory(experiment: Experiment, workdir: Path) -> Prepared:
    """The prepared run with the batch size that it has, or of a new one the largest that fits; says which and why.

    It is a power of two times devices and micro-batches. The learning rate stays.

    Raises:
        FieldError: not one image on each device fits, or the backend tells no plan of memory.
    """
    if is_run(workdir) and steps_in(checkpoints_of(workdir)):
        size = read_stored(workdir).experiment["batch_size"]
        print(f"batch_size {size}, as {workdir} has it", flush=True)
        return prepare(dataclasses.replace(experiment, batch_size=size))
    least = experiment.micro_batches * jax.device_count()
    least = next(size for size in (least << power for power in range(16)) if _is_possible(experiment, size))
    run = prepare(dataclasses.replace(experiment, batch_size=least))
    most = max(len(run.train_source) // _STEPS, least)
    doubled = (least << power for power in range(int(math.log2(most // least)) + 1))
    sizes = [size for size in doubled if _is_possible(experiment, size)]
    room, where = _room()
    print("compiling the step for --batch-size auto", flush=True)
    size, needed = largest_fitting(sizes, experiment.batch_size, functools.partial(_needed, run), room)
    height, width = _largest_bucket(run)
    reason = f"more would leave fewer than {_STEPS} steps an epoch" if size == sizes[-1] else "twice as many do not fit"
    memory = f"{_said(needed)} of the {_said(room)} that may be used, {where}"
    rate = experiment.optimizer.for_batch_size(size).learning_rate
    print(f"batch_size {size}: a step on images of {height} x {width} takes {memory}; {reason}", flush=True)
    print(f"learning rate {rate:g}; the recipe has {experiment.batch_size} images a step", flush=True)
    chosen = dataclasses.replace(experiment, batch_size=size)
    return prepare(chosen, (run.train_source, run.evaluation_source))


def _is_possible(experiment: Experiment, size: int) -> bool:
    """Whether the parts of an experiment can have so many images a step."""
    try:
        dataclasses.replace(experiment, batch_size=size)
    except FieldError:
        return False
    return True


def largest_fitting(sizes: Sequence[int], first: int, needed: Callable[[int], float], room: float) -> tuple[int, float]:
    """The largest of the ascending sizes that needs no more than there is room, and what it needs.

    Few are asked about, beginning near `first`: what a size needs grows no faster than the size.

    Raises:
        FieldError: not even the smallest fits.
    """
    known = functools.cache(needed)
    place = max([0, *(at for at, size in enumerate(sizes) if size <= first)])
    if known(sizes[place]) <= room:
        share = known(sizes[place]) / sizes[place]
        place = max(at for at, size in enumerate(sizes) if at == place or share * size <= room)
        while place + 1 < len(sizes) and known(sizes[place]) * sizes[place + 1] / sizes[place] <= room:
            place += 1
    while known(sizes[place]) > room:
        if place == 0:
            raise FieldError(
                f"--batch-size auto: {sizes[0]} images a step take {_said(known(sizes[0]))}, and {_said(room)} may be "
                "used. Take smaller images or a smaller model."
            )
        place -= 1
    return sizes[place], known(sizes[place])


def _needed(run: Prepared, size: int) -> float:
    """The bytes on each device that a step of so many images takes; infinite where the compiler finds no room."""
    try:
        plans = [one.compile().memory_analysis() for one in run.train_step.lowered(run.shapes, _parts(run, size))]
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" in str(error):
            return math.inf
        raise
    if None in plans:
        raise FieldError(f"the backend {jax.default_backend()} tells no plan of memory; give --batch-size a number.")
    return max(
        one.argument_size_in_bytes + one.output_size_in_bytes - one.alias_size_in_bytes + one.temp_size_in_bytes
        for one in plans
    )


def _parts(run: Prepared, size: int) -> list[Any]:
    """The shapes of the parts of a batch of so many images, all of the largest size of the plan."""
    plan, parts = run.plan(0), run.experiment.micro_batches
    read = load(run.train_source, plan, max_objects=run.max_objects)
    one = divided_rows(read, parts // run.plan.parts)[0]
    return [of_size(one, _largest_bucket(run), size // parts)] * parts


def _largest_bucket(run: Prepared) -> tuple[int, int]:
    return max(run.plan.buckets, key=math.prod)


def _room() -> tuple[float, str]:
    """The bytes that a program may use on each device, and where they come from."""
    told = jax.local_devices()[0].memory_stats() or {}
    if "bytes_limit" in told:
        return _SHARES["device"] * told["bytes_limit"], f"{_SHARES['device']:.0%} of the device's"
    free = min([_free_memory(), *_free_in_group()])
    return _SHARES["host"] * free / jax.local_device_count(), f"{_SHARES['host']:.0%} of what the host has free"


def _free_memory() -> float:
    if not _MEMORY.is_file():
        raise FieldError("this machine does not tell its free memory; give --batch-size a number.")
    line = next(line for line in _MEMORY.read_text().splitlines() if line.startswith("MemAvailable"))
    return 1024 * float(line.split()[1])


def _free_in_group() -> list[float]:
    """What the limit of a container leaves, where there is one."""
    texts = [(limit.read_text().strip(), used.read_text()) for limit, used in _LIMITS if limit.is_file()]
    return [float(limit) - float(used) for limit, used in texts if limit != "max"]


def _said(size: float) -> str:
    return f"{size / 2**30:.2f} GiB" if math.isfinite(size) else "more than there is"
