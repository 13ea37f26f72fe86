"""PNG files of COCO's panoptic form, whose colours are ids of segments: red + 256 green + 65,536 blue, 0 for none."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, UInt8

from vitjax.data.decode import opened
from vitjax.data.errors import DataError
from vitjax.data.folder import read_bytes
from vitjax.data.mask_source import PanopticMap
from vitjax.data.masks import boxes_of
from vitjax.data.source import Classes

MOST = 256**3 - 1
"""The largest id that a colour has; the smallest is 1."""

_WEIGHTS = np.array([1, 256, 65_536], np.int32)


def read_ids(path: Path, limit: int | None = None) -> Int[np.ndarray, "height width"]:
    """The id at every pixel.

    Raises:
        DataError: the file cannot be read, its pixels have no colours, or there are more than `limit` of them.
    """
    data = read_bytes(path)
    try:
        image = opened(io.BytesIO(data), str(path), limit)
        mode, pixels = image.mode, np.asarray(image)
    except (OSError, ValueError, SyntaxError) as error:
        raise DataError(f"{path} cannot be read as a map of segments ({error}).") from error
    if mode not in ("RGB", "RGBA"):
        wish = "save it as 8-bit RGB, id = red + 256 green + 65536 blue"
        raise DataError(f"{path} has {mode} pixels, and a map of segments has RGB ones; {wish}.")
    return pixels[..., :3].astype(np.int32) @ _WEIGHTS


def as_colours(ids: Int[np.ndarray, "height width"]) -> UInt8[np.ndarray, "height width 3"]:
    """The colours of ids, as they are saved; `read_ids` gives the ids back."""
    return (ids[..., None] // _WEIGHTS % 256).astype(np.uint8)


def in_panoptic_form(
    found: PanopticMap, image_id: int | str, file_name: str, classes: Classes
) -> tuple[UInt8[np.ndarray, "height width 3"], dict[str, Any]]:
    """The pixels of the PNG of a map, and its annotation in the json, as the official scorer reads them.

    Segments are numbered from 1 on. A label beyond the classes is its own category.
    """
    areas = np.bincount(found.owner.ravel() + 1, minlength=len(found.labels) + 1)[1:]
    boxes = boxes_of(found.owner == np.arange(len(found.labels))[:, None, None]).astype(int).tolist()
    known = zip(boxes, areas.tolist(), found.labels.tolist(), found.crowds.tolist(), strict=True)
    segments = [
        {
            "id": number,
            "category_id": classes.category_ids[label] if label < len(classes) else label,
            "iscrowd": int(crowd),
            "area": area,
            "bbox": [left, top, right - left, bottom - top],
        }
        for number, ((left, top, right, bottom), area, label, crowd) in enumerate(known, start=1)
    ]
    annotation = {"image_id": image_id, "file_name": file_name, "segments_info": segments}
    return as_colours(found.owner + 1), annotation


def numbered(
    ids: Int[np.ndarray, "height width"], segments: Int[np.ndarray, " segments"]
) -> Int[np.ndarray, "height width"]:
    """The place of every pixel's id among those of the segments, -1 where it is not among them."""
    if not len(segments):
        return np.full(ids.shape, -1, np.int32)
    order = np.argsort(segments, kind="stable")
    place = np.minimum(np.searchsorted(segments[order], ids), len(segments) - 1)
    return np.where(segments[order][place] == ids, order[place], -1).astype(np.int32)
