"""`vitjax doctor`: what in a data folder would hurt training."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

import tyro

if TYPE_CHECKING:
    from vitjax.data.annotations import AnnotatedImages
    from vitjax.doctor.report import Finding

_HIGH = 0.3  # AP50 of a constant answer, from which on that of a model tells little by itself


@dataclass(frozen=True)
class DoctorArguments:
    """Looks through a data folder for what would hurt training, and says what to do about it: COCO format, YOLO's or
    Pascal VOC's layout, or a folder of images for each class. The exit code is 0 if there is nothing beyond notes, 1
    with warnings, 2 with errors."""

    data: tyro.conf.Positional[str]
    """The folder, or a data.yaml."""
    split: str | None = None
    """The one split to look at; all that are there if left out."""
    queries: int = 100
    """Queries of the model: no more objects can be found on an image."""
    decode: bool = False
    """Decode every image, not just read its header."""
    size: tuple[int, int] = (800, 1333)
    """Shorter side that images are resized to, and the most that the longer may become."""
    batch_size: int = 16
    """Images of a training step, for the padding."""


def run(words: list[str]) -> int:
    """Prints what was found; returns the exit code."""
    from vitjax.doctor.examination import examine

    options = asdict(tyro.cli(DoctorArguments, prog="vitjax doctor", args=words))
    examination = examine(options.pop("data"), **options)
    findings = (*examination.findings, *_baselines(examination.splits))
    print(replace(examination, findings=findings).table())
    return examination.exit_code


def _baselines(splits: "Mapping[str, AnnotatedImages]") -> "Iterator[Finding]":
    """What a constant answer, made from the training split, scores on each of the others."""
    from vitjax.doctor.report import Finding
    from vitjax.evaluation.constant_boxes import constant_boxes, objects_of, score_constant_boxes

    training = next((images for name, images in splits.items() if name.startswith("train")), None)
    constant = None if training is None else constant_boxes(objects_of(training))
    for name, images in splits.items():
        if training is None or constant is None or images is training or images.classes != training.classes:
            continue
        answer, scores = score_constant_boxes(constant, images)
        if all(map(math.isfinite, scores.values())):
            told = " and ".join(f"{score} {value:.3f}" for score, value in scores.items())
            text = f"{answer} would score {told}: a model has to be above that"
            yield Finding("objects", "note" if scores["AP50"] >= _HIGH else "ok", text, split=name)
