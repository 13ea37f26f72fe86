"""`vitjax doctor`: what in a data folder would hurt training."""

import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from vitjax.errors import FieldError, VitjaxError

if TYPE_CHECKING:  # the folder alone needs no JAX
    from vitjax.doctor.report import Examination, Finding

_HIGH = 0.3  # AP50 of a constant answer, from which on that of a model tells little by itself


@dataclass(frozen=True)
class DoctorArguments:
    """Looks through a data folder for what would hurt training, and says what to do about it: COCO format or its
    panoptic form, YOLO's or Pascal VOC's layout, or a folder of images for each class.

    `vitjax doctor CONFIG --data.root FOLDER` judges the folder by a config: its splits, image sizes, queries, batches
    and augmentation, with any of its fields behind it, as in training; of the options below --split and --decode go
    with it. The exit code is 0 if nothing is lost, 1 if something is (images, objects, or what scores mean), 2 if the
    data cannot be trained on.
    """

    data: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="DATA")]
    """The folder, or a data.yaml; or a config, by name or file, with --data.root behind it."""
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


@dataclass(frozen=True)
class _BesideConfig:
    split: str | None = None
    decode: bool = False


def run(words: list[str]) -> int:
    """Prints what was found; returns the exit code."""
    try:
        examination = _by_config(words[0], words[1:]) if _has_config(words) else _by_itself(words)
    except VitjaxError as error:  # 1 is for what loses something
        print(f"error: {error}", file=sys.stderr)
        return 2
    findings = (*examination.findings, *_baselines(examination))
    print(replace(examination, findings=findings).table())
    return examination.exit_code


def _by_itself(words: Sequence[str]) -> "Examination":
    from vitjax.doctor.examination import examine
    from vitjax.doctor.sizes import Batches

    asked = tyro.cli(DoctorArguments, prog="vitjax doctor", args=words)
    batches = Batches(batch_size=asked.batch_size)
    return examine(
        asked.data, split=asked.split, decode=asked.decode, queries=asked.queries, size=asked.size, batches=batches
    )


def _has_config(words: Sequence[str]) -> bool:
    """Whether the first word is a config: a field of its data is named behind it, or it is one and no folder."""
    if not words or words[0].startswith("-") or not {"-h", "--help"}.isdisjoint(words):
        return False
    if words[0].endswith(".py") or any(word.startswith("--data.") for word in words):
        return True
    if Path(words[0]).expanduser().exists():
        return False
    from vitjax.runs.configs import names

    return words[0] in names()


def _by_config(name: str, words: list[str]) -> "Examination":
    from vitjax.data.image_folder import ImageFolder
    from vitjax.detection.queries import queries_for
    from vitjax.doctor.examination import examine
    from vitjax.doctor.folder import examine_folder
    from vitjax.doctor.sizes import Batches
    from vitjax.runs.configs import load_config, override
    from vitjax.runs.short_words import without_short_words

    own, fields = tyro.cli(_BesideConfig, prog="vitjax doctor", args=words, return_unknown_args=True, add_help=False)
    config = load_config(name)
    fields, asked = without_short_words(fields)
    experiment: Any = asked.of(override(config, fields))
    data, resize = experiment.data, experiment.resize
    root = getattr(data, "root", None)
    if root is None or experiment.kind == "segmentation":
        what = f"{type(data).__name__} for {experiment.kind}"
        raise FieldError(f"doctor looks through folders of boxes or of images by class; {config.name} has {what}.")
    if not root:
        raise FieldError(f"{config.name} names no data folder; give it as --data.root FOLDER.")
    if isinstance(data, ImageFolder):
        print(f"as {config.name} has it: squares of {resize.size} pixels", flush=True)
        return examine_folder(Path(root), own.split, decode=own.decode, data=data, crop=resize.size)
    given = getattr(experiment.model, "num_queries", 10**9)
    queries = queries_for(10**9) if given is None else given
    parts = experiment.micro_batches if experiment.mixed_parts else 1
    told = f"the augmentation of {config.name}"
    batches = Batches(told, experiment.batch_size, experiment.augmentation, experiment.buckets, parts)
    size = (resize.size, resize.max_side)
    most = f"{'up to ' * (given is None)}{queries} queries"
    print(f"as {config.name} has it: {most}, images of {size[0]}/{size[1]} pixels", flush=True)
    measures: Any = {"queries": queries, "size": size, "batches": batches, "splits": (data.train_split, data.split)}
    measures |= {"limits": data.limits} if hasattr(data, "limits") else {}
    return examine(root, split=own.split, decode=own.decode, data=data, **measures)


def _baselines(examination: "Examination") -> "Iterator[Finding]":
    """What a constant answer, made from the training split, scores on each of the others."""
    from vitjax.doctor.report import Finding
    from vitjax.evaluation.constant_boxes import constant_boxes, objects_of, score_constant_boxes

    splits = examination.splits
    training = splits.get(examination.training)
    constant = None if training is None else constant_boxes(objects_of(training))
    for name, images in splits.items():
        if training is None or constant is None or images is training or images.classes != training.classes:
            continue
        answer, scores = score_constant_boxes(constant, images)
        if all(map(math.isfinite, scores.values())):
            told = " and ".join(f"{score} {value:.3f}" for score, value in scores.items())
            text = f"{answer} would score {told}: a model has to be above that"
            yield Finding("objects", "note" if scores["AP50"] >= _HIGH else "ok", text, split=name)
