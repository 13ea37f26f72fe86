"""Predictions as files: a picture with boxes per image, and one json; of a classifier the json alone."""

import dataclasses
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from vitjax.data.errors import DataError
from vitjax.data.memory import SUFFIXES, Pictures
from vitjax.data.source import Classes
from vitjax.inference.class_predictor import ClassPredictor
from vitjax.inference.draw import draw_boxes, legible_scale
from vitjax.inference.prediction import Prediction, Recognition, recognition, select
from vitjax.inference.predictor import Predictor


@dataclasses.dataclass(frozen=True)
class Saved:
    """How much was written; `boxes` are those drawn."""

    images: int
    boxes: int
    seconds: float
    unreadable: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class SavedClasses:
    """How many images a classifier was asked about."""

    images: int
    seconds: float
    unreadable: tuple[str, ...]


def find_images(names: Sequence[str]) -> list[Path]:
    """The files named, and all images in the folders named, sorted within each.

    Raises:
        DataError: a name is neither, or nothing is found.
    """
    paths: list[Path] = []
    for name in names:
        path = Path(name)
        if path.is_dir():
            inside = sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES)
            if not inside:
                raise DataError(f"the folder {path} holds no image ({', '.join(SUFFIXES)}).")
            paths += inside
        elif path.is_file():
            paths.append(path)
        else:
            raise DataError(f"there is no image or folder {path}.")
    if not paths:
        raise DataError("name at least one image or folder: vitjax predict RUN IMAGE ...")
    return paths


def save_predictions(
    predictor: Predictor,
    paths: Sequence[Path],
    out: Path,
    *,
    threshold: float,
    top: int = 100,
    batch_size: int = 8,
    workers: int = 0,
) -> Saved:
    """Writes `<out>/<image name>.png` with the boxes that reach the threshold, and `<out>/predictions.json` with all.

    The json has COCO's results, [x, y, width, height] in pixels, with the file and class name beside the ids;
    image_id counts the images from 1 in the order of the files.
    """
    began = time.monotonic()
    openable, unreadable = _openable(paths, predictor.classes)
    source = Pictures(openable, predictor.classes)
    out.mkdir(parents=True, exist_ok=True)
    names = _output_names(openable)
    entries: dict[int, list[dict]] = {}
    boxes = 0
    for found in tqdm(
        predictor.detect(source, batch_size=batch_size, workers=workers), total=len(source), disable=None
    ):
        path = openable[found.record]
        if not found.readable:
            unreadable.append(str(path))
            continue
        every = _first(select(found, predictor.classes, 0.0), top)
        entries[found.record] = _entries(every, found.record + 1, path, predictor)
        shown = _first(every, int((every.scores >= threshold).sum()))
        boxes += len(shown)
        image = source[found.record].image
        drawn = draw_boxes(
            image,
            shown.boxes,
            shown.names,
            shown.scores,
            names=predictor.classes.names,
            scale=legible_scale(*image.shape[:2]),
        )
        Image.fromarray(drawn).save(out / names[found.record])
    results = [entry for record in sorted(entries) for entry in entries[record]]
    (out / "predictions.json").write_text(json.dumps(results), encoding="utf-8")
    return Saved(len(entries), boxes, time.monotonic() - began, tuple(unreadable))


def save_recognitions(
    predictor: ClassPredictor,
    paths: Sequence[Path],
    out: Path,
    *,
    top: int | None = None,
    batch_size: int = 8,
    workers: int = 0,
    tell: Callable[[Path, Recognition], None] = lambda path, told: None,
) -> SavedClasses:
    """Writes `<out>/predictions.json`: for every image its file and its most probable classes, best first.

    `tell` is called with each image as it is done, in order.
    """
    began = time.monotonic()
    openable, unreadable = _openable(paths, predictor.classes)
    source = Pictures(openable, predictor.classes)
    entries = []
    for recognized in predictor.recognize(source, batch_size=batch_size, top=top, workers=workers):
        path = openable[recognized.record]
        if not recognized.readable:
            unreadable.append(str(path))
            continue
        told = recognition(recognized, predictor.classes)
        tell(path, told)
        entries.append({"file_name": str(path), "classes": _class_entries(told)})
    out.mkdir(parents=True, exist_ok=True)
    (out / "predictions.json").write_text(json.dumps(entries, indent=1), encoding="utf-8")
    return SavedClasses(len(entries), time.monotonic() - began, tuple(unreadable))


def _class_entries(told: Recognition) -> list[dict]:
    triples = zip(told.labels.tolist(), told.names, told.scores.tolist(), strict=True)
    return [{"label": label, "name": name, "score": round(score, 6)} for label, name, score in triples]


def _openable(paths: Sequence[Path], classes: Classes) -> tuple[list[Path], list[str]]:
    """The files whose header reads as an image, and the names of the others."""
    good: list[Path] = []
    bad: list[str] = []
    for path in paths:
        try:
            Pictures([path], classes)
            good.append(path)
        except DataError:
            bad.append(str(path))
    return good, bad


def _first(prediction: Prediction, count: int) -> Prediction:
    boxes, scores, labels = (part[:count] for part in (prediction.boxes, prediction.scores, prediction.labels))
    return Prediction(boxes, scores, labels, prediction.names[:count])


def _entries(prediction: Prediction, image_id: int, path: Path, predictor: Predictor) -> list[dict]:
    corners = np.asarray(prediction.boxes, np.float64)
    boxes = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1).round(2).tolist()
    ids = predictor.classes.category_ids
    return [
        {
            "image_id": image_id,
            "category_id": ids[label] if label < len(ids) else int(label),
            "bbox": box,
            "score": round(float(score), 6),
            "file_name": str(path),
            "category_name": name,
        }
        for box, score, label, name in zip(boxes, prediction.scores, prediction.labels, prediction.names, strict=True)
    ]


def _output_names(paths: Sequence[Path]) -> list[str]:
    """One PNG name per image; images of the same name in different folders are told apart by a number."""
    seen: dict[str, int] = {}
    names = []
    for path in paths:
        count = seen[path.name] = seen.get(path.name, 0) + 1
        names.append(f"{path.stem}.png" if count == 1 else f"{path.stem}_{count}.png")
    return names
