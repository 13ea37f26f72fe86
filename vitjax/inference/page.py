"""A page of pictures with the boxes that a detector finds on them."""

from pathlib import Path
from typing import Any

from PIL import Image

from vitjax.data.memory import Subset
from vitjax.data.source import Source
from vitjax.inference.detector import Detector
from vitjax.inference.draw import contact_sheet, draw_boxes, legible_scale
from vitjax.inference.prediction import select


def draw_page(
    detector: Detector,
    variables: dict[str, Any],
    source: Source,
    path: Path,
    *,
    batch_size: int,
    images: int = 12,
) -> None:
    """Writes a page of the source's first images, with the detections worth showing on them, as a PNG."""
    shown = Subset(source, range(min(images, len(source))))
    found = sorted(detector(variables, shown, batch_size=batch_size), key=lambda one: one.record)
    readable = [one for one in found if one.readable]
    if not readable:
        return
    names = source.classes.names
    chosen = [(shown[one.record].image, select(one, source.classes, detector.threshold)) for one in readable]
    pictures = [
        draw_boxes(image, one.boxes, one.names, one.scores, names=names, scale=legible_scale(*image.shape[:2]))
        for image, one in chosen
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(contact_sheet(pictures, captions=[shown.name(one.record) for one in readable])).save(path)
