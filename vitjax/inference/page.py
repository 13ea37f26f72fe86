"""A page of pictures that shows what a model predicts on them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from vitjax.data.memory import Subset
from vitjax.data.source import LabelMapSource, SizedSource, Source
from vitjax.drawing.boxes import contact_sheet, draw_boxes, enlarged, legible_scale
from vitjax.drawing.label_maps import draw_label_map, legend, with_legend
from vitjax.inference.detector import Detector
from vitjax.inference.label_mapper import LabelMapper
from vitjax.inference.prediction import name_of, select
from vitjax.inference.recognizer import Recognizer
from vitjax.inference.segment_predictor import segmentation


def draw_detection_page(
    detector: Detector,
    variables: dict[str, Any],
    source: SizedSource,
    path: Path,
    *,
    batch_size: int,
    images: int = 12,
) -> None:
    """Writes a page of the source's first images, with the detections worth showing on them, as a PNG."""
    shown = Subset(source, range(min(images, len(source))))
    found = sorted(detector(variables, shown, batch_size=batch_size), key=lambda one: one.record)
    readable = [one for one in found if one.readable]
    names = source.classes.names
    chosen = [(shown[one.record].image, select(one, source.classes, detector.threshold)) for one in readable]
    pictures = [
        draw_boxes(image, one.boxes, one.names, one.scores, names=names, scale=legible_scale(*image.shape[:2]))
        for image, one in chosen
    ]
    _save(pictures, [shown.name(one.record) for one in readable], path, columns=4)


def draw_class_page(
    recognizer: Recognizer,
    variables: dict[str, Any],
    source: Source,
    path: Path,
    *,
    batch_size: int,
    images: int = 24,
) -> None:
    """Writes a page of images from all over the source, each with its label and what it is taken for, as a PNG."""
    shown = Subset(source, np.linspace(0, len(source) - 1, min(images, len(source))).astype(int).tolist())
    readable = [one for one in recognizer(variables, shown, batch_size=batch_size) if one.readable]
    captions = []
    for one in readable:
        taken_for = f"{name_of(source.classes, one.labels[0])} {one.scores[0]:.2f}"
        wrong = one.truth not in (-1, one.labels[0])
        captions.append(taken_for + (f"\nwrong: is {name_of(source.classes, one.truth)}" if wrong else ""))
    _save([enlarged(shown[one.record].image) for one in readable], captions, path, columns=6, tile=200)


def draw_map_page(
    mapper: LabelMapper,
    variables: dict[str, Any],
    source: LabelMapSource,
    path: Path,
    *,
    batch_size: int,
    images: int = 8,
) -> None:
    """Writes a page of the source's first images, each beside its true and its found labels in colours, as a PNG."""
    shown = Subset(source, range(min(images, len(source))))
    found = sorted(mapper(variables, shown, batch_size=batch_size), key=lambda one: one.record)
    readable, names = [one for one in found if one.readable], source.classes.names
    pictures = []
    for one in readable:
        image, maps = shown[one.record].image, (source.label_map(one.record), one.label_map)
        drawn = [enlarged(image), *(draw_label_map(image, labels, names) for labels in maps)]
        gap = np.full((len(drawn[0]), 8, 3), 255, np.uint8)
        row = np.concatenate([drawn[0], gap, drawn[1], gap, drawn[2]], axis=1)
        told = segmentation(np.concatenate(maps, axis=1), source.classes)
        pictures.append(with_legend(row, legend(told, names)))
    captions = [f"{shown.name(one.record)}: image, truth, found" for one in readable]
    _save(pictures, captions, path, columns=2, tile=1200)


def _save(
    pictures: Sequence[UInt8[np.ndarray, "_ _ 3"]],
    captions: Sequence[str],
    path: Path,
    *,
    columns: int,
    tile: int | None = None,
) -> None:
    if pictures:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(contact_sheet(pictures, captions=captions, columns=columns, tile=tile)).save(path)
