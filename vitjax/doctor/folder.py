"""Looks through a folder of images that lie in a folder for each class."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Int

from vitjax.data.errors import DataError
from vitjax.data.image_folder import FolderImages, ImageFolder
from vitjax.data.layouts import inside
from vitjax.doctor.classes import look_at_counts
from vitjax.doctor.images import Files, look_at_formats, look_for_leaks, look_inside, read_files
from vitjax.doctor.report import Examination, Finding, several
from vitjax.doctor.sizes import look_at_sizes

_CROP = 224  # what classifiers are trained on
_MENDED = "left out"  # in the lines about what the folder lost; the others only tell how it is read


def examine_folder(
    root: Path, split: str | None, *, decode: bool, data: ImageFolder | None = None, crop: int = _CROP
) -> Examination:
    """What there is to know of images by class; of a folder that is neither this nor COCO, what was looked for.

    `data` opens the folder, an ImageFolder with its defaults if left out; `crop` is the side of what is seen of images.
    """
    findings, files, most = list[Finding](), dict[str, Files](), None
    data = data or ImageFolder(str(root))
    for name in dict.fromkeys((data.train_split, data.split, "test")) if split is None else (split,):
        try:
            source = data.open(name)
        except DataError as error:
            if name == "test" != split and name not in (data.train_split, data.split):  # nothing asks for it
                continue
            wish = (inside(root) if root.is_dir() else "") + (
                "For detection, put COCO instances beside the images: annotations/instances_train.json, or train.json."
            )
            findings.append(Finding("annotations", "error", str(error), (), wish, name))
            if name == data.train_split:  # without its classes the other splits mean nothing
                break
            continue
        files[name] = read_files(source.folder, source.names)
        training = name.startswith("train") or name == data.train_split
        found = [*_look(source, files[name], training, decode, crop)]
        counts = np.bincount(source.labels, minlength=len(source.classes))
        most = int(counts.argmax()) if training else most
        if not training and most is not None:
            found.append(_baseline(source, most, counts))
        findings += [replace(finding, split=name) for finding in found]
    findings += look_for_leaks(files)
    kind = f"images by class, {several(len(files), 'split')} ({', '.join(files)})" if files else "no data"
    return Examination(f"{root}: {kind}; there are no COCO annotations", tuple(findings))


def _baseline(source: FolderImages, label: int, counts: Int[np.ndarray, " classes"]) -> Finding:
    """What naming the class that is most frequent in training would score."""
    share = counts[label] / max(counts.sum(), 1)
    text = (
        f"{source.classes.names[label]!r} for every image would score top-1 {share:.3f}: a model has to be above that"
    )
    return Finding("objects", "ok", text)


def _look(source: FolderImages, files: Files, training: bool, decode: bool, crop: int) -> Iterator[Finding]:
    text = f"{several(len(source), 'image')} of {several(len(source.classes), 'class', 'classes')}"
    yield Finding("annotations", "ok", text)
    counts = np.bincount(source.labels, minlength=len(source.classes))
    yield from look_at_counts([], source.classes, counts, training, "image")
    for line in source.problems:
        yield Finding("images", "warning" if _MENDED in line else "note", line)
    yield from look_at_formats(files)
    yield from look_inside(files, decode)
    turned = tuple(name for name, facts in zip(files.names, files.facts, strict=True) if facts.orientation != 1)
    if turned:
        yield Finding("images", "note", f"{several(len(turned), 'image')} turned upright by EXIF", turned)
    if files.names:
        yield from look_at_sizes(np.array([facts.size for facts in files.facts], np.int32), files.names, (crop, crop))
