"""Looks at the sizes of images, and at the padding that they cost."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Int

from vitjax.data.plan import TrainPlan, padding, require_positive
from vitjax.data.transforms import Augmentation
from vitjax.doctor.report import Finding, first_of, listed, percent, several

_STEPS = 300  # steps that tell the padding well enough
_MUCH_PADDING = 0.25
_TELLING = 10  # steps of an epoch; with fewer, hardly any batch is of images that are alike
_HUGE = 2  # times the size of training


def look_at_sizes(
    sizes: Int[np.ndarray, "records 2"], names: Sequence[str], size: tuple[int | None, int | None]
) -> Iterator[Finding]:
    """Which image sizes there are, as width x height; `size` is what images are resized to."""
    unique, counts = np.unique(sizes, axis=0, return_counts=True)
    if len(unique) == 1:
        text = f"all images are {_shape(unique[0])} (width x height)"
    else:
        order = np.argsort(-counts, kind="stable").tolist()
        common = listed((f"{_shape(unique[i])} ({percent(counts[i], len(sizes))})" for i in order), most=5)
        pixels = unique.prod(1, dtype=np.int64)
        span = f"{_shape(unique[pixels.argmin()])} to {_shape(unique[pixels.argmax()])}"
        text = f"{several(len(unique), 'image size')} (width x height), {span}; most are {common}"
    yield Finding("sizes", "ok", text)
    huge = sizes.min(1) > _HUGE * (size[0] or np.inf)
    if 2 * huge.sum() > len(sizes):
        text = f"{several(huge.sum(), 'image')} more than {_HUGE} times larger than training needs: to resize them once"
        yield Finding("sizes", "note", f"{text} saves most of the time of decoding", first_of(names, huge))


@dataclass(frozen=True)
class Batches:
    """How training makes batches, `told` in words; what it is not told is DETR's."""

    told: str = "DETR's augmentation"
    batch_size: int = 16
    augmentation: Augmentation = field(default_factory=Augmentation)
    buckets: int = 12
    parts: int = 1

    def __post_init__(self) -> None:
        """Refuses batches of nothing."""
        require_positive(batch_size=self.batch_size)

    def plan(self, sizes: Int[np.ndarray, "records 2"]) -> TrainPlan:
        """The plan of training."""
        return TrainPlan(sizes, self.batch_size, self.augmentation, max_buckets=self.buckets, parts=self.parts)


def look_at_padding(sizes: Int[np.ndarray, "records 2"], batches: Batches) -> Iterator[Finding]:
    """The buckets of training, and what of their pixels is padding."""
    plan = batches.plan(sizes)
    steps = [plan(step) for step in range(min(_STEPS, plan.steps_per_epoch))]
    cuts: list[Any] = [step.cuts for step in steps]  # of a plan of sizes all have outputs
    wasted = np.mean([padding(each.output, step.bucket) for each, step in zip(cuts, steps, strict=True)])
    buckets = ", ".join(_shape(bucket) for bucket in plan.buckets)
    text = (
        f"{100 * wasted:.1f} % of the pixels would be padding, with {batches.told} in batches of {batches.batch_size}; "
        f"{several(len(plan.buckets), 'bucket')}: {buckets}"
    )
    wish = "Smaller batches pad less, and so do images whose shapes are more alike."
    much = wasted > _MUCH_PADDING and plan.steps_per_epoch >= _TELLING
    yield Finding("sizes", "hint" if much else "ok", text, (), wish)


def _shape(size: tuple[int, int] | Int[np.ndarray, "2"]) -> str:
    return f"{size[1]}x{size[0]}"
